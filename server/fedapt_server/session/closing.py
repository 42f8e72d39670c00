"""The end of a session at the coordinator, without I/O: who has signed the record that closes it."""

from collections.abc import Collection

from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.log.heads import (
    CloseSignature,
    CloseStatement,
    SignedHead,
    closed_body,
    countersign,
    transcript_digest,
)
from fedapt_secure.log.line import SESSION_CLOSED, LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies
from fedapt_server.session.actions import Action, End, Log, SetTimer
from fedapt_server.session.progress import Progress, Signed
from fedapt_server.session.reception import to_all
from fedapt_server.session.witness import Witness


class Closing:
    """Collects signatures on a session's `CloseStatement`.

    Args:
        configuration: The session.
        identity: The coordinator's signing key.
        witness: Checks the heads that come with the signatures.
        progress: How the session went, and who had signed before a crash.
    """

    def __init__(
        self,
        configuration: SessionConfiguration,
        identity: Identity,
        witness: Witness,
        progress: Progress,
    ) -> None:
        rounds = progress.records
        self._configuration = configuration
        self._identity = identity
        self._witness = witness
        self._round = rounds[-1].round + 1 if rounds else 1
        self._signed = dict(progress.signed)
        self.statement = CloseStatement(
            session=configuration.session,
            configuration=configuration.hash,
            model=progress.model_id,
            completed_rounds=progress.completed_rounds,
            transcript=transcript_digest(rounds),
        )

    @property
    def signed(self) -> frozenset[str]:
        """Which institutions have signed."""
        return frozenset(self._signed)

    def check(self, name: str, message: m.Done) -> None:
        """Check an institution's signature; raises `PeerError` if it or the log's head does not hold."""
        self.statement.check(self._configuration.roster, name, message.signature)
        self._witness.check(name, self._round, message.head)

    def receive(self, name: str, message: m.Done) -> Signed:
        """Take an institution's signature and return it; raises as `check` does."""
        self.check(name, message)
        self._signed[name] = Signed(message.signature, message.head)
        return self._signed[name]

    def lines(self) -> list[Log]:
        """Return what the coordinator's log says about the end."""
        closed = closed_body(self.statement, self._all_signatures(), self._missing())
        return [*self._witness.lines(self._round, self._ordered_heads()), Log(SESSION_CLOSED, closed)]

    def end(self, progress: Progress, connected: Collection[str]) -> list[Action]:
        """Return what ends the session, once it is durable: the record goes to all who are connected."""
        body = bodies.session_ended(self._configuration, progress)
        ended = Log("session_ended", body)
        return [to_all(connected, self.message), ended, SetTimer(None), End(progress.completed_rounds)]

    def message(self, head: LogHead) -> m.SessionClosed:
        """Return the record for all institutions, with the present head of the coordinator's log."""
        heads = (*self._ordered_heads(), self._witness.own(self._round, head))
        return m.SessionClosed(
            statement=self.statement,
            signatures=self._all_signatures(),
            missing=self._missing(),
            round=self._round,
            heads=heads,
            countersignature=countersign(self._identity, self.statement.session, self._round, heads),
        )

    def _ordered_heads(self) -> tuple[SignedHead, ...]:
        return tuple(self._signed[n].head for n in self._configuration.roster.names if n in self._signed)

    def _all_signatures(self) -> tuple[CloseSignature, ...]:
        own = CloseSignature(party=COORDINATOR, signature=self.statement.sign(self._identity))
        names = (name for name in self._configuration.roster.names if name in self._signed)
        return (own, *(CloseSignature(party=n, signature=self._signed[n].signature) for n in names))

    def _missing(self) -> tuple[str, ...]:
        return tuple(name for name in self._configuration.roster.names if name not in self._signed)
