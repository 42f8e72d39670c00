"""When an update leaves: at a fixed time after its round's start, whatever the training took; without I/O.

How long training takes follows from the images that were sampled: in person mode one person with many images
would show in it. So the time is set once, before any image is used, by a step on empty records that is larger
than any step of the session (see `Learner.check_possible`).
"""

from dataclasses import dataclass, field
from typing import Final

SLACK: Final = 1.5
"""The time is so many times what the largest step takes: machines are not always as quick."""
LEAST_S: Final = 0.05
OF_TIMEOUT: Final = 0.9
"""The coordinator waits for ``round_timeout_s``: what is sent later is not in the round's sum."""


@dataclass
class AnswerTime:
    """One session's time from a round's start to the update.

    Attributes:
        most_s: How long a round's training takes at most, measured on empty records, in seconds.
        round_timeout_s: How long the coordinator waits for it, in seconds.
        seconds: The time; longer once it was too short.
    """

    most_s: float
    round_timeout_s: float
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = self._within(SLACK * self.most_s + LEAST_S)

    @property
    def in_time(self) -> bool:
        """Whether the coordinator still waits when the largest possible batches are trained."""
        return self.most_s <= self.round_timeout_s

    def wait_s(self, took_s: float) -> tuple[float, bool]:
        """Return how long a finished update waits, and whether the time was too short and is longer now.

        It is doubled, never set to what a round took: that would tell the one thing that is to be hidden.

        Args:
            took_s: How long ago the round began, in seconds.
        """
        if took_s <= self.seconds:
            return self.seconds - took_s, False
        longer = self.seconds
        while longer < took_s:
            longer *= 2
        stretched = self._within(longer)
        is_longer, self.seconds = stretched > self.seconds, stretched
        return max(0.0, stretched - took_s), is_longer

    def _within(self, seconds: float) -> float:
        return min(seconds, OF_TIMEOUT * self.round_timeout_s)
