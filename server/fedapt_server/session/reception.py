"""What an institution gets when it comes to a session: offer, key, missed sums; without I/O."""

from collections.abc import Callable, Collection, Sequence

from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import PeerError
from fedapt_crypto.identity import Identity
from fedapt_secure.log.line import LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies
from fedapt_server.session.actions import Log, SendTo, TakeHead
from fedapt_server.session.progress import Progress
from fedapt_server.session.witness import SESSION_START, Witness


class Reception:
    """Receives the institutions of one session.

    Args:
        configuration: The session.
        key_seeds: One seed a domain key.
        identity: The coordinator's signing key.
        witness: What is known of all parties' logs.
    """

    def __init__(
        self,
        configuration: SessionConfiguration,
        key_seeds: tuple[bytes, ...],
        identity: Identity,
        witness: Witness,
    ) -> None:
        self._configuration = configuration
        self._key_seeds = key_seeds
        self._identity = identity
        self._witness = witness

    def offer(self, name: str, head: LogHead) -> SendTo:
        """Offer the session, with the present head of the coordinator's log."""
        offer = m.SessionOffer(
            configuration=self._configuration.to_bytes(),
            signature=self._identity.sign("session offer", self._configuration.hash),
            head=self._witness.own(SESSION_START, head),
            held=self._witness.held(name),
        )
        return send(name, offer)

    def welcome(
        self, name: str, applied_round: int, progress: Progress, group: Sequence[SendTo]
    ) -> list[SendTo]:
        """Send what an institution that has accepted needs: its key and what only institutions can open.

        Args:
            name: Who has accepted.
            applied_round: The last round whose sum is in its model.
            progress: How far the session has come.
            group: Its part of the group secret, which comes before what can be opened with it.
        """
        key = bodies.sealed_key(self._configuration, self._identity, self._key_seeds, name)
        newest = progress.pending
        sums = progress.sealed_sums
        if newest is not None and (not sums or newest.round > sums[-1].round):
            sums = (*sums, newest.missed)  # only who was there can check it
        missed = [one for one in sums if one.round > applied_round]
        return [send(name, key), *group, *(send(name, message) for message in missed)]

    def session_end(self, progress: Progress) -> m.SessionEnd:
        """Return what ends the session, signed."""
        parts = (progress.model_id, self._key_seeds, progress.records)
        return bodies.session_end(self._configuration, self._identity, *parts)


def send(name: str, message: TaggedMessage) -> SendTo:
    """Return the action that sends a message."""
    return SendTo(name, message.to_bytes())


def refusal(name: str, error: PeerError) -> Log:
    """Return the log's line about what an institution sent and was refused."""
    return Log("refused", {"name": name, "error": type(error).__name__, "detail": str(error)})


def to_all(names: Collection[str], message: Callable[[LogHead], TaggedMessage]) -> TakeHead:
    """Return the action that sends to some; to one who comes in this very step the offer goes first.

    Args:
        names: Who is connected now.
        message: Makes the message from the head of the coordinator's log.
    """
    return TakeHead(lambda head: [SendTo(n, data) for data in [message(head).to_bytes()] for n in names])
