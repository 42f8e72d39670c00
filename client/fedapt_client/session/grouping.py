"""The group secret of a session at an institution, without I/O: make it if asked, open our part, confirm it.

Whoever makes it gets its part back like everybody else, so there is one way to come to it, also after a
restart. The shell puts its commitment on record before we sign anything under it, and no other one is ever
taken in its place: two of one session would let two groups of institutions complete rounds side by side.
"""

from fedapt_client.session.actions import Action, MakeGroup, OpenGroup, Send
from fedapt_crypto.errors import ContextMismatch
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.group_secret import commitment_in
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.statements import confirmed_by, sign_confirmation


class Grouping:
    """What an institution has of its session's group secret.

    Args:
        identity: Its signing key.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._offer: m.GroupOffer | None = None
        self.held: InstitutionGroup | None = None
        self.confirmed_by: frozenset[str] = frozenset()
        """Who has signed that it holds the same secret, as the newest round's start showed it."""

    @property
    def commitment(self) -> bytes | None:
        """What stands for the group secret; ``None`` before we hold it."""
        return None if self.held is None else self.held.commitment

    @property
    def burned(self) -> bool:
        """Whether it must not be used any more."""
        return self.held is not None and self.held.discarded

    def asked(self, configuration: SessionConfiguration) -> list[Action]:
        """Answer the coordinator's request: once made, the same one is offered again."""
        return [MakeGroup(configuration)] if self._offer is None else [Send(self._offer)]

    def made(self, offer: bytes) -> list[Action]:
        """Offer the group secret that we have made; nothing of it is kept but the offer."""
        self._offer = m.GroupOffer(payload=offer)
        return [Send(self._offer)]

    def take(self, configuration: SessionConfiguration, part: m.GroupPart) -> list[Action]:
        """Take our part of a group secret.

        Raises:
            MalformedMessage: If it does not decode.
            ContextMismatch: If it is another one than we hold.
        """
        if self.held is None:
            return [OpenGroup(configuration, part.payload)]
        if commitment_in(part.payload) != self.held.commitment:
            raise ContextMismatch("a second group secret for this session was sent", peer=COORDINATOR)
        return [self._ready(configuration, self.held)]

    def opened(self, configuration: SessionConfiguration, group: InstitutionGroup) -> list[Action]:
        """Take note that our part is open and on record, and confirm it."""
        if self.held is not None and self.held is not group:
            self.held.close()
        self.held = group
        return [self._ready(configuration, group)]

    def confirmed(self, configuration: SessionConfiguration, start: m.RoundStart) -> None:
        """Check that enough have confirmed the group secret, where we encrypt before anybody signs.

        Raises:
            PeerError: If they have not: then nothing may be encrypted under what we hold.
        """
        if configuration.blind and self.held is not None:
            self.confirmed_by = confirmed_by(configuration, self.held.commitment, start.confirmations)

    def close(self) -> None:
        """Forget the secret: the session is over for us."""
        if self.held is not None:
            self.held.close()

    def _ready(self, configuration: SessionConfiguration, group: InstitutionGroup) -> Send:
        signature = sign_confirmation(self._identity, configuration, group.commitment)
        return Send(m.GroupReady(signature=signature))
