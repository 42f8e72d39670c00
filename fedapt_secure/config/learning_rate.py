"""How the learning rate goes over a session: the words of it, where settings and sessions find them."""

from typing import Final, Literal

LearningRateSchedule = Literal["constant", "linear"]
"""``constant``; or ``linear``: from the learning rate at the first step to almost none at the last, so that
the noise of the last steps, which no later one averages away, is small."""
CONSTANT: Final = "constant"
LINEAR: Final = "linear"


def rate_share(schedule: LearningRateSchedule, step: int, steps: int) -> float:
    """Return the share of the learning rate at one step.

    Args:
        schedule: How it goes.
        step: Which of the session's steps, from 0.
        steps: How many there are.
    """
    return 1.0 if schedule == CONSTANT else 1.0 - (step + 0.5) / steps


def mean_share(schedule: LearningRateSchedule) -> float:
    """Return the mean of `rate_share` over all steps."""
    return 1.0 if schedule == CONSTANT else 0.5
