"""What the coordinator knows of all parties' logs in one session, without I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fedapt_crypto.errors import ContextMismatch, RolledBackLog
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.log.heads import SignedHead, WitnessedHead, countersign, sign_head, witnessed_body
from fedapt_secure.log.line import WITNESSED, LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.headbook import MAX_HELD, HeadBook
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.actions import Log
from fedapt_server.session.outcome import Outcome

SESSION_START = 0
"""The round number of heads that are exchanged before the first round."""


@dataclass
class News:
    """What an institution's acceptance says about logs.

    Attributes:
        lines: For the coordinator's log: every head that is new to it, as evidence.
        own: Heads of the coordinator's own log, to be looked up in it.
        tell: Whom to ask about heads of their logs.
        behind: Whose log is behind what it signed before, and how.
    """

    lines: list[Log] = field(default_factory=list)
    own: list[LogHead] = field(default_factory=list)
    tell: dict[str, tuple[WitnessedHead, ...]] = field(default_factory=dict)
    behind: dict[str, RolledBackLog] = field(default_factory=dict)


class Witness:
    """Checks the heads that institutions send and bring.

    Args:
        configuration: The session.
        identity: The coordinator's signing key.
        witnessed: The highest heads that the coordinator's log has seen in earlier sessions.
    """

    def __init__(
        self, configuration: SessionConfiguration, identity: Identity, witnessed: Iterable[WitnessedHead]
    ) -> None:
        self._session = configuration.session
        self._roster = configuration.roster
        self._identity = identity
        self._book = HeadBook.of_earlier_sessions(configuration.roster, witnessed)
        self._claims: dict[str, dict[LogHead, WitnessedHead]] = {}
        for head in self._book.of_others(COORDINATOR):
            self._claim(head)
        self._present: dict[str, LogHead] = {}

    def held(self, name: str) -> tuple[WitnessedHead, ...]:
        """Return the heads of an institution's log that it has to account for: all that somebody holds.

        Not the highest only: a log that was rewritten may be longer by now than what others remember of it.
        """
        return tuple(self._claims.get(name, {}).values())

    def own(self, round_number: int, head: LogHead) -> SignedHead:
        """Sign the head of the coordinator's own log."""
        return sign_head(self._identity, COORDINATOR, self._session, round_number, head)

    def accept(self, name: str, message: m.SessionAccept) -> News:
        """Take an institution's head at the start of the session, and the heads that it brings.

        Raises:
            PeerError: If a signature does not verify, or its own log has gone back.
        """
        news = News([self._line(self.check(name, SESSION_START, message.head))])
        self.hear(message.witnessed, news)
        return news

    def hear(self, witnessed: Iterable[WitnessedHead], news: News) -> News:
        """Take heads that an institution brings; raises `VerificationFailed` for one that is not genuine."""
        for head in witnessed:
            if head.signed.head not in self._claims.get(head.signed.party, {}):
                self._take_brought(head, news)
        return news

    def check(self, name: str, round_number: int, head: SignedHead | None) -> WitnessedHead:
        """Check the present head of an institution's log.

        Raises:
            PeerError: If there is none or another's, it does not verify, or the log has gone back.
        """
        if head is None or head.party != name:
            raise ContextMismatch("sent its first message of a round without its log's head", peer=name)
        witnessed = self._book.advance(self._session, round_number, head)
        self._present[name] = head.head
        return witnessed

    def round_end(
        self, context: RoundContext, outcome: Outcome, heads: Sequence[SignedHead], head: LogHead
    ) -> m.RoundEnd:
        """Return how a round ended and where all logs stood, ours after it, countersigned.

        Args:
            context: The round.
            outcome: How it ended.
            heads: What institutions signed of their logs.
            head: The head of our own log after the round.
        """
        number = context.round
        heads = (*heads, self.own(number, head))
        return m.RoundEnd(
            round=number,
            attempt=context.attempt,
            status=outcome.status,
            contributors=outcome.contributors,
            dropped=outcome.dropped,
            heads=heads,
            countersignature=countersign(self._identity, self._session, number, heads),
        )

    def _take_brought(self, head: WitnessedHead, news: News) -> None:
        head.check(self._roster)
        self._claim(head)
        party = head.signed.party
        if party == COORDINATOR:
            news.own.append(head.signed.head)
            return
        try:
            is_new = self._book.add(head)
        except RolledBackLog as error:
            is_new = True
            news.behind[party] = error
        if is_new:
            news.lines.append(self._line(head))
        news.tell[party] = (*news.tell.get(party, ()), head)[-MAX_HELD:]
        present = self._present.get(party)
        if present is not None and present.log == head.signed.log and present.seq < head.signed.seq:
            news.behind[party] = RolledBackLog(
                f"its log ends at line {present.seq}, though others hold line {head.signed.seq} of it",
                peer=party,
            )

    def _claim(self, head: WitnessedHead) -> None:
        """Have a party account for a head that others hold; of very many the ones that came last."""
        claims = self._claims.setdefault(head.signed.party, {})
        claims[head.signed.head] = head
        if len(claims) > MAX_HELD:
            del claims[next(iter(claims))]

    def lines(self, round_: int, heads: tuple[SignedHead, ...]) -> list[Log]:
        """Return what the log says of heads that a round has brought; nothing where there are none."""
        return [Log(WITNESSED, witnessed_body(self._session, round_, heads))] if heads else []

    def _line(self, head: WitnessedHead) -> Log:
        return Log(WITNESSED, witnessed_body(head.session, head.round, (head.signed,)))
