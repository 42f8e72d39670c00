"""What an institution knows of all parties' logs in one session, and has its own log keep; without I/O."""

from collections.abc import Iterable, Sequence

from fedapt_client.session.actions import Action, CheckLog, Log, Refused
from fedapt_crypto.errors import ContextMismatch, PeerError, RolledBackLog, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_secure.log.heads import SignedHead, WitnessedHead, check_countersigned, sign_head, witnessed_body
from fedapt_secure.log.line import WITNESSED, LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.headbook import HeadBook
from fedapt_secure.protocol.session import SessionConfiguration

SESSION_START = 0
"""The round number of heads that are exchanged before the first round."""


class Witness:
    """Signs the heads of our log and checks those of the others.

    Args:
        name: Our name on the roster. identity: Our signing key. roster: The approved roster.
        witnessed: The highest heads that our log has seen in earlier sessions.
    """

    def __init__(
        self, name: str, identity: Identity, roster: Roster, witnessed: Iterable[WitnessedHead]
    ) -> None:
        self._name = name
        self._identity = identity
        self._roster = roster
        self._book = HeadBook.of_earlier_sessions(roster, witnessed)
        # As they were before this session: what its parties sign now cannot take the place of what they must
        # account for.
        self._brought = self._book.of_others(name)
        self._sent: dict[int, SignedHead] = {}

    def own(self, session: bytes, round_number: int, head: LogHead) -> SignedHead:
        """Sign the present head of our log for a round, and remember that it was sent."""
        signed = sign_head(self._identity, self._name, session, round_number, head)
        self._sent[round_number] = signed
        return signed

    @property
    def of_coordinator(self) -> tuple[WitnessedHead, ...]:
        """What our log held of the coordinator's before this session."""
        return tuple(head for head in self._brought if head.signed.party == COORDINATOR)

    def accept(
        self, configuration: SessionConfiguration, applied_round: int, head: LogHead
    ) -> m.SessionAccept:
        """Return our acceptance of a session, with our log's head and the highest we have seen of others."""
        return m.SessionAccept(
            configuration_hash=configuration.hash,
            applied_round=applied_round,
            head=self.own(configuration.session, SESSION_START, head),
            witnessed=self._brought,
        )

    def first_of_round(
        self, configuration: SessionConfiguration, message: m.Aggregation, head: LogHead
    ) -> m.Aggregation:
        """Return our first payload of a round with the head of our log."""
        return message.model_copy(update={"head": self.own(configuration.session, message.round, head)})

    def check_offer(self, session: bytes, offer: m.SessionOffer) -> list[Action]:
        """Check the coordinator's head, and what others hold of our log.

        The head is not kept: a coordinator that learns only now that its log is not the right one could not
        own up to that any more, were it held to the wrong one too.

        Raises:
            VerificationFailed: If a signature does not verify, or a head is another party's.
            RolledBackLog: If the coordinator's log is behind what it signed before.
        """
        if offer.head.party != COORDINATOR:
            raise VerificationFailed("the offer carries another party's head", peer=COORDINATOR)
        self._book.advance(session, SESSION_START, offer.head)
        return self.check_held(offer.held)

    def check_held(self, held: Sequence[WitnessedHead]) -> list[Action]:
        """Return what it takes to account for heads of our log that others hold.

        Raises:
            VerificationFailed: If one is not ours, or was not signed by us.
        """
        for head in held:
            if head.signed.party != self._name:
                raise VerificationFailed("we are to account for another party's log", peer=COORDINATOR)
            head.check(self._roster)
        return [CheckLog(tuple(head.signed.head for head in held))] if held else []

    def take(self, session: bytes, message: m.RoundEnd | m.SessionClosed) -> list[Action]:
        """Take all parties' heads of a round, countersigned; what does not hold is refused by name.

        Genuine heads are kept even where they show that a log has gone back: they are the evidence.
        """
        round_number, heads, mark = message.round, message.heads, message.countersignature
        try:
            check_countersigned(self._roster, session, round_number, heads, mark)
            actions = self._check_own(round_number, heads)
        except PeerError as error:
            return [Refused(error, round_number)]
        actions.append(Log(WITNESSED, witnessed_body(session, round_number, heads, mark)))
        for head in heads:
            try:
                self._book.advance(session, round_number, head)
            except RolledBackLog as error:
                actions.append(Refused(error, round_number))
        return actions

    def _check_own(self, round_number: int, heads: tuple[SignedHead, ...]) -> list[Action]:
        if COORDINATOR not in {head.party for head in heads}:
            raise ContextMismatch("the coordinator did not give its own log's head", peer=COORDINATOR)
        own = [head for head in heads if head.party == self._name]
        sent = self._sent.get(round_number)
        if own and sent is not None and own[0] != sent:
            raise ContextMismatch("the coordinator witnessed another head of our log than we sent")
        # One that we signed and do not remember was sent before a restart: our log has to know it.
        return [CheckLog((own[0].head,))] if own and sent is None else []
