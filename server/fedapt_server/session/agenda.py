"""Which attempt at which round comes next, and who sits it out; without I/O.

Rules:
- A round that gave a sum is never attempted again.
- A round that gave none is attempted anew, with the next attempt number, as long as enough institutions may
  still contribute to it. Until its update has left, an institution trains again under the same
  reservation: another attempt costs no privacy, the next round would.
- Whoever declined a round (because its update has left in an earlier attempt, most of all) sits all its
  attempts out.
- After `MAX_ATTEMPTS` the next round's turn has come: one who always aborts holds no session up for ever.
"""

from dataclasses import dataclass, field

from fedapt_secure.protocol.plan import MAX_ATTEMPTS


@dataclass
class Agenda:
    """The rounds of one session.

    Attributes:
        rounds: How many are planned.
        number, attempt: The newest attempt that has begun; 0 before the first.
        again: Whether that round is to be attempted again.
        sitting_out: Who takes no part in any attempt of that round any more.
    """

    rounds: int
    number: int = 0
    attempt: int = 0
    again: bool = False
    sitting_out: set[str] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether no round is left."""
        return not self.again and self.number >= self.rounds

    @property
    def next_number(self) -> int:
        """The round that the next attempt is at."""
        return self.number if self.again else self.number + 1

    def begin(self) -> tuple[int, int]:
        """Return round and attempt of what begins now."""
        if self.again:
            self.attempt += 1
        else:
            self.number, self.attempt = self.number + 1, 1
            self.sitting_out.clear()
        self.again = False
        return self.number, self.attempt

    def ended(self, *, completed: bool) -> None:
        """Take note of how the newest attempt ended."""
        self.again = not completed and self.attempt < MAX_ATTEMPTS

    def give_up(self) -> None:
        """Leave the round at the attempts it had."""
        self.again = False
