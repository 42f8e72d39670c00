"""A coordinator that lies in a troubled world, and invariants that bite where somebody believes it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedapt_client.session import own_model
from fedapt_client.session.own_model import OwnModel
from fedapt_crypto.sum_tag import SumCheck
from fedapt_secure.audit.checks import agreement, models
from fedapt_secure.protocol import messages as m
from tests.support.examples import often
from tests.world.campaign import LYING_SHARE, Setting, run_schedule
from tests.world.consortium import scratch_folder
from tests.world.invariants import Violation
from tests.world.lying import LIES, LyingWorld, is_lying
from tests.world.operations import draw_schedule

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def play(base: Path, lie: str, seed: int = 0) -> LyingWorld:
    with LyingWorld(base, lie, seed=seed) as world:
        world.play(draw_schedule(seed) if seed else ())
        world.settle()
        world.check_end(audited=True)
        return world


@pytest.mark.parametrize("lie", often(LIES, 2))
def test_without_other_trouble(base: Path, lie: str) -> None:
    play(base, lie)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=() if n <= 4 else pytest.mark.slow) for n in range(1, 11)]
)
def test_in_trouble(base: Path, seed: int) -> None:
    figures = run_schedule(base, seed, draw_schedule(seed), Setting(lying=1.0), audited=True)
    assert sum(count for name, count in figures.items() if name.startswith("lies: ")) == 1


FOUND = {
    "one that was told to begin another round, and then lost power, has done nothing wrong": (
        "round skipped",
        6,
    ),
    "who is named as a contributor to one alone has released nothing": ("other contributors", 1372),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_before(base: Path, name: str) -> None:
    play(base, *FOUND[name])


def test_a_tenth_of_the_schedules_lie_by_default() -> None:
    assert 400 < sum(is_lying(seed, LYING_SHARE) for seed in range(5000)) < 600


def signs_any_survivor_set(patch: Patch) -> None:
    patch.setattr(OwnModel, "admit", lambda self, survivors: None)


def takes_any_sum(patch: Patch) -> None:
    patch.setattr(SumCheck, "verify_parts", lambda self, *_, **__: None)


def takes_any_model(patch: Patch) -> None:
    patch.setattr(own_model, "caught_up", _model)


def _model(configuration: Any, message: m.CatchUp) -> Any:
    return m.model_from_bytes(message.model, configuration.plan.shape)


def audit_overlooks_sums(patch: Patch) -> None:
    """Nothing is said of sums that never came."""
    right = models._follow

    def follow(records: Any, record: Any, session: Any, first: Any, facts: Any, findings: Any) -> None:
        right(records, record, session, first, facts, findings)
        findings.kept = [one for one in findings.kept if "the sum never came" not in one.detail]

    patch.setattr(models, "_follow", follow)


def audit_believes_the_coordinator(patch: Patch) -> None:
    patch.setattr(agreement, "accuses", lambda *_: False)


@pytest.mark.parametrize(
    ("broken", "lie", "complaint"),
    [
        (signs_any_survivor_set, "rewind", "two survivor sets from one model"),
        (takes_any_sum, "other sum", "to which no sums of its contributors lead"),
        (takes_any_sum, "two models", "to which no sums of its contributors lead"),
        (takes_any_model, "forged statement", "to which no sums of its contributors lead"),
        (audit_overlooks_sums, "hidden sum", "says VERIFIED, and institutions know better"),
        (audit_believes_the_coordinator, "called aborted", "finds clinic-4 at fault, which is honest"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_what_believes_a_lie_is_caught(
    base: Path, monkeypatch: Patch, broken: Callable[[Patch], None], lie: str, complaint: str
) -> None:
    broken(monkeypatch)
    with pytest.raises(Violation, match=complaint):
        play(base, lie)


def test_two_sums_from_one_model_are_caught(base: Path) -> None:
    """Were institutions to reveal shares for any set, the coordinator would have both sums."""
    with LyingWorld(base, "statement ignored") as world:
        world.settle()
        model, [survivors] = next(iter(world.sums.items()))
        world.sums[model].add(survivors[1:])
        with pytest.raises(Violation, match="from one model"):
            world.check_end()
