"""Simulated time: one clock for all, and a wall clock for each party that may be wrong."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Clock:
    """Seconds since the world began; ``errors`` are what each party's wall clock is off by, in seconds."""

    now: float = 0.0
    errors: dict[str, float] = field(default_factory=dict)

    def wall(self, party: str) -> datetime:
        """What a party believes the time to be."""
        return BEGINNING + timedelta(seconds=self.now + self.errors.get(party, 0.0))

    def step(self, party: str, seconds: float) -> None:
        """Somebody sets a party's clock."""
        self.errors[party] = self.errors.get(party, 0.0) + seconds


@dataclass
class Timer:
    """Fires once, not before it is due; the world decides how long after."""

    due: float | None = None

    def set(self, clock: Clock, seconds: float | None) -> None:
        self.due = None if seconds is None else clock.now + seconds

    def is_due(self, clock: Clock) -> bool:
        return self.due is not None and self.due <= clock.now
