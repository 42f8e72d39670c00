"""What one party knows of the others' logs, in memory: their highest signed heads, and whether they go on.

Both sides keep one for a session. It begins with what their own log has witnessed in earlier sessions.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from fedapt_crypto.errors import RolledBackLog, VerificationFailed
from fedapt_crypto.roster import Roster
from fedapt_secure.log.heads import SignedHead, WitnessedHead
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.witness import MAX_LOGS

MAX_HELD = 64
HeldHeads = Annotated[tuple[WitnessedHead, ...], Field(max_length=MAX_HELD)]
"""Heads of one party's logs, as others hold them."""


@dataclass(frozen=True)
class HeadBook:
    """The highest head of each log of each party.

    Attributes:
        roster: Whose signatures count.
    """

    roster: Roster
    _held: dict[str, dict[bytes, WitnessedHead]] = field(default_factory=dict)

    @classmethod
    def of_earlier_sessions(cls, roster: Roster, heads: Iterable[WitnessedHead]) -> "HeadBook":
        """Return a book that begins with heads from our own log; those of former keys are left out."""
        book = cls(roster)
        for head in heads:
            try:
                head.check(roster)
                book.add(head)
            except (VerificationFailed, RolledBackLog):
                continue
        return book

    def held(self, party: str) -> tuple[WitnessedHead, ...]:
        """Return what is known of a party's logs."""
        return tuple(self._held.get(party, {}).values())

    def of_others(self, party: str) -> tuple[WitnessedHead, ...]:
        """Return what is known of every other party's logs."""
        return tuple(head for name in self._held if name != party for head in self.held(name))

    def is_known(self, head: WitnessedHead) -> bool:
        """Whether this head, or a later one of the same log, is in the book; it need not be verified."""
        known = self._held.get(head.signed.party, {}).get(head.signed.log)
        if known is None:
            return False
        return head.signed.seq < known.signed.seq or head.signed.head == known.signed.head

    def add(self, head: WitnessedHead) -> bool:
        """Note a verified head; returns whether it says more than was known.

        Raises:
            RolledBackLog: If another head of the same log with the same number is known: two histories.
        """
        signed = head.signed
        logs = self._held.setdefault(signed.party, {})
        known = logs.get(signed.log)
        if known is not None and known.signed.seq == signed.seq and known.signed.hash != signed.hash:
            raise RolledBackLog(f"signed two different lines {signed.seq} of its log", peer=signed.party)
        if known is not None and known.signed.seq >= signed.seq:
            return False
        logs.pop(signed.log, None)
        logs[signed.log] = head
        if len(logs) > MAX_LOGS:
            del logs[next(iter(logs))]
        return True

    def advance(self, session: bytes, round_number: int, signed: SignedHead) -> WitnessedHead:
        """Take a party's present head: check that its signature holds and that its log has gone on.

        Raises:
            VerificationFailed: If the signature does not verify.
            RolledBackLog: If it is behind one that the party signed before, or contradicts it.
        """
        signed.check(self.roster, session, round_number)
        self.check_forward(signed.party, signed.head)
        head = WitnessedHead(session=session, round=round_number, signed=signed)
        self.add(head)
        return head

    def check_forward(self, party: str, head: LogHead) -> None:
        """Check that a party's present head is not behind what it signed before; raises `RolledBackLog`."""
        known = self._held.get(party, {}).get(head.log)
        if known is not None and (
            head.seq < known.signed.seq or (head.seq == known.signed.seq and head.hash != known.signed.hash)
        ):
            raise RolledBackLog(
                f"its log ends at line {head.seq}, though it signed line {known.signed.seq} of it before:"
                " the log was cut, rolled back or rewritten",
                peer=party,
            )
