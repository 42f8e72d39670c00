"""A few thousand mutated messages, so that a decoder that raises the wrong thing shows at once."""

import random

import pytest

from tests.fuzz.decoders import DECODERS
from tests.fuzz.fuzz_decoders import CORPUS, attempt, read_seeds, run, try_stage
from tests.fuzz.live import play
from tests.fuzz.mutate import mutated

INPUTS = 4000


def test_mutated_messages_raise_only_our_errors(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fuzzer = run(seconds=8.0, seed=20, most=INPUTS)
    assert sum(fuzzer.tried.values()) > INPUTS // 10
    assert set(fuzzer.tried) == set(fuzzer.targets)
    assert 0 < sum(fuzzer.accepted.values()) < sum(fuzzer.tried.values())


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_seeds_are_accepted(name: str) -> None:
    assert all(attempt(DECODERS[name], seed) for seed in read_seeds(name))


def test_stages_accept_the_real_message_again_and_again() -> None:
    stages = play()
    assert len(stages) == 10
    for stage in stages.values():
        assert try_stage(stage, stage.message)
        assert try_stage(stage, stage.message)


def test_anything_else_fails_the_run() -> None:
    def crash(data: bytes) -> object:
        raise KeyError(data)

    with pytest.raises(KeyError):
        attempt(crash, b"")


def test_mutations_differ() -> None:
    rng, seed = random.Random(1), read_seeds("from-institution")[0]
    assert len({mutated(seed, [seed], rng) for _ in range(200)}) > 100
