"""Crashes of the coordinator, at one of its writes: no lie, and it must come to the same."""

from fedapt_server.session.progress import Progress
from tests.hostile.liar import Crash, Lie


class CrashesAt(Lie):
    """Ends the coordinator's process at one write of its store.

    Args:
        which: At which, from 1.
        done: Whether after it; else before.
    """

    def __init__(self, which: int, *, done: bool) -> None:
        self._which = which
        self._done = done
        self.writes = 0
        self.crashed = False

    def keeps(self, progress: Progress, *, done: bool) -> None:
        self.writes += not done
        if not self.crashed and (self.writes, done) == (self._which, self._done):
            self.crashed = True
            raise Crash
