"""Who is killed when: drawn from a seed, for each attempt at a round."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from fedapt_crypto.secagg import registry

PHASES = tuple(phase.value for phase in registry.phases(registry.MASKING))
FATAL_ATTEMPTS = 2
"""Later attempts at a round are left alone: five are all there are, and here rounds are to be completed."""


@dataclass(frozen=True)
class Kill:
    """One kill -9.

    Attributes:
        target: A group of institutions, or ``None`` for the coordinator.
        phase: The phase in which, counted from 0; institutions train in the first.
        after_s: How long after the phase's beginning.
        away_s: How long until it is started again.
    """

    target: int | None
    phase: int
    after_s: float
    away_s: float


Plan = Callable[[int, int], list[Kill]]
"""Round and attempt to who is killed in it."""


def random_kills(seed: int, groups: int, rounds: int) -> Plan:
    """Kills in half of the attempts; the coordinator's in the first 60 % of the rounds only.

    Its last life is to be long enough to see whether its memory grows.
    """

    def plan(number: int, attempt: int) -> list[Kill]:
        draw = random.Random(f"{seed} {number} {attempt}")
        if attempt > FATAL_ATTEMPTS:
            return []
        targets: list[int | None] = []
        if draw.random() < 0.45:
            targets += draw.sample(range(groups), 2 if draw.random() < 0.3 else 1)
        if number <= 0.6 * rounds and draw.random() < 0.35:
            targets.append(None)
        return [
            Kill(target, draw.randrange(len(PHASES)), draw.uniform(0, 0.6), draw.uniform(0, 4))
            for target in targets
        ]

    return plan
