"""The operations a schedule is made of, drawn from a seed; any list of them can be played in any world."""

import random
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What happens."""

    FLOW = "flow"
    """``amount`` frames arrive, from one connection after another."""
    DELIVER = "deliver"
    """One frame arrives, on the connection ``who``: connections overtake each other."""
    DELAY = "delay"
    """Nothing arrives from or at ``who`` for ``amount`` seconds."""
    CUT = "cut"
    """A connection breaks; its ends notice later, or never."""
    CUT_AT = "cut_at"
    """It breaks before the frame that ``who`` sends after ``amount`` others."""
    NOTICE = "notice"
    """One end of a broken connection notices."""
    REPEAT = "repeat"
    """A frame that arrived before arrives again, on the same connection."""
    PARTITION = "partition"
    """Nothing passes between ``who`` and the coordinator, new connections neither, or passes again."""
    CRASH = "crash"
    """The power goes at ``who``; what was not synced is lost, or not."""
    CRASH_AT = "crash_at"
    """It goes after ``amount`` further steps of what ``who`` stores or sends."""
    RESTART = "restart"
    BREAK = "break"
    """Something is wrong at ``who`` that a session notices when it is offered: images, model, people."""
    POLICY = "policy"
    """The policy at ``who`` becomes stricter than the session, in one of several entries, or is as it was."""
    DISK = "disk"
    """The disk at ``who`` fails after ``amount`` further entries, until it is mended."""
    REPAIR = "repair"
    """All that is wrong at ``who`` is mended, and what has ended there is started again."""
    COORDINATOR_CRASH = "coordinator_crash"
    COORDINATOR_CRASH_AT = "coordinator_crash_at"
    COORDINATOR_RESTART = "coordinator_restart"
    CLOCK = "clock"
    """Somebody's wall clock is set forwards or back."""
    WAIT = "wait"
    """Time passes, and every timer fires when it is due."""
    TICK = "tick"
    """Time passes, and no timer fires: they will be late."""
    RING = "ring"
    """One timer that is due fires."""


class Operation(NamedTuple):
    """One operation; ``who`` and ``amount`` select among what there is, whatever their size."""

    kind: Kind
    who: int = 0
    amount: int = 0

    def __repr__(self) -> str:
        return f"({self.kind.value!r}, {self.who}, {self.amount})"


Schedule = tuple[Operation, ...]

_WEIGHTS: Final = {
    Kind.FLOW: 30,
    Kind.DELIVER: 14,
    Kind.DELAY: 3,
    Kind.CUT: 4,
    Kind.CUT_AT: 4,
    Kind.NOTICE: 4,
    Kind.REPEAT: 4,
    Kind.PARTITION: 2,
    Kind.CRASH: 3,
    Kind.CRASH_AT: 6,
    Kind.RESTART: 6,
    Kind.BREAK: 2,
    Kind.POLICY: 2,
    Kind.DISK: 3,
    Kind.REPAIR: 8,
    Kind.COORDINATOR_CRASH: 2,
    Kind.COORDINATOR_CRASH_AT: 4,
    Kind.COORDINATOR_RESTART: 5,
    Kind.CLOCK: 2,
    Kind.WAIT: 10,
    Kind.TICK: 3,
    Kind.RING: 3,
}
MAX_AMOUNT: Final = 40


def draw_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed: from calm to very troubled."""
    dice = random.Random(seed)
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    if dice.random() < 0.3:  # a schedule with one or two kinds of trouble goes deeper into them
        kept = {
            Kind.FLOW,
            Kind.WAIT,
            Kind.RESTART,
            Kind.REPAIR,
            Kind.COORDINATOR_RESTART,
            *dice.choices(kinds, k=2),
        }
        weights = [weight if kind in kept else 0 for kind, weight in _WEIGHTS.items()]
    length = dice.randint(5, 60)
    drawn = dice.choices(kinds, weights, k=length)
    return tuple(Operation(kind, dice.randrange(8), dice.randrange(MAX_AMOUNT)) for kind in drawn)


def parse(entries: list[list[object]] | list[tuple[str, int, int]]) -> Schedule:
    """Return the schedule that a list of ``(kind, who, amount)`` stands for."""
    return tuple(Operation(Kind(kind), int(who), int(amount)) for kind, who, amount in entries)
