"""Which randomness an institution trains with: a seed decides it only where the settings say so openly."""

from types import SimpleNamespace

import pytest

from fedapt_client.settings import ClientSettings
from fedapt_client.training.learner import Learner


def stream(private: bool, round_number: int = 1, **settings: object) -> bytes | None:
    """Return the first bytes of the stream that a learner would hand to the trainer."""
    learner = object.__new__(Learner)
    learner.privacy_plan = SimpleNamespace() if private else None
    learner._settings = ClientSettings(name="clinic-1", port=1, data="x", **settings)
    keystream = learner._repeatable(round_number)
    return None if keystream is None else keystream.uniform_words(4).tobytes()


def test_under_privacy_a_seed_alone_decides_nothing() -> None:
    assert stream(True, experiment_seed=3) is None
    assert stream(True) is None
    assert stream(False) is None


@pytest.mark.parametrize(
    ("private", "settings"),
    [(False, {}), (True, {"insecure_deterministic_noise": True})],
)
def test_a_repeatable_stream_follows_from_seed_round_and_purpose(private: bool, settings: dict) -> None:
    first = stream(private, experiment_seed=3, **settings)
    assert first is not None
    assert first == stream(private, experiment_seed=3, **settings)
    assert first != stream(private, experiment_seed=4, **settings)
    assert first != stream(private, 2, experiment_seed=3, **settings)
    assert first != stream(not private, experiment_seed=3, insecure_deterministic_noise=True)
