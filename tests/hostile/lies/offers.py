"""Lies about a session: what is offered to whom, its keys, and its group secret."""

from collections.abc import Callable, Collection

from fedapt_crypto import domain_keys
from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.identity import Identity
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import groups
from fedapt_crypto.secagg.group_secret import GroupSecretPart
from fedapt_secure.log.line import LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from tests.hostile.behaviour import FOUR, VICTIM
from tests.hostile.liar import Lie, Told
from tests.support.rosters import changed


class ChangedOffer(Lie):
    """Offers another session, under its signature.

    Args:
        change: Makes its configuration.
        to: Who is offered it.
        minds: Whether it minds an acceptance of what it should not have offered; else it takes it as if it
            were of the session that it runs.
    """

    def __init__(
        self,
        change: Callable[[SessionConfiguration], SessionConfiguration],
        to: Collection[str] = (VICTIM,),
        *,
        minds: bool = True,
    ) -> None:
        self._change = change
        self._to = to
        self._minds = minds

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.SessionOffer) or name not in self._to:
            return [message]
        other = self._change(SessionConfiguration.from_bytes(message.configuration))
        signature = self.identity.sign("session offer", other.hash)
        return [message.model_copy(update={"configuration": other.to_bytes(), "signature": signature})]

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        if self._minds or not isinstance(message, m.SessionAccept):
            return message
        return message.model_copy(update={"configuration_hash": self.session._configuration.hash})


def with_fields(configuration: SessionConfiguration, **fields: object) -> SessionConfiguration:
    own = {name: getattr(configuration, name) for name in SessionConfiguration.model_fields}
    return SessionConfiguration(**(own | fields))


def with_plan(**changes: object) -> Callable[[SessionConfiguration], SessionConfiguration]:
    def change(configuration: SessionConfiguration) -> SessionConfiguration:
        plan = configuration.plan.model_copy(update=changes)
        return with_fields(configuration, plan=plan)

    return change


def with_member(**fields: object) -> Callable[[SessionConfiguration], SessionConfiguration]:
    """Change an entry of the roster: not the receiver's own."""

    def change(configuration: SessionConfiguration) -> SessionConfiguration:
        roster = changed(configuration.roster, FOUR[1], **fields)
        return with_fields(configuration, roster=roster)

    return change


def without_member(configuration: SessionConfiguration) -> SessionConfiguration:
    """The roster of another session, which had one institution fewer."""
    roster = configuration.roster.only([name for name in FOUR if name != FOUR[1]])
    return with_fields(configuration, roster=roster)


SWAPPED_SEALING_KEY = with_member(sealing_key=SealingKey.fresh().public_key)
SWAPPED_IDENTITY_KEY = with_member(identity_key=Identity.generate().public_key)


class UnsignedOffer(Lie):
    """Offers the victim the session without its signature."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.SessionOffer) or name != VICTIM:
            return [message]
        return [message.model_copy(update={"signature": bytes(64)})]


class ChangedKey(Lie):
    """Gives the victim another domain key.

    Args:
        whose: ``other seed``: one that nobody committed to; ``other session``: one of another session;
            ``other receiver``: what was sealed to somebody else.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.SealedKey) or name != VICTIM:
            return [message]
        configuration = self.session._configuration
        session, receiver = configuration.session, VICTIM
        seed = domain_keys.draw_seed()
        if self._whose == "other session":
            session = bytes(16)
        if self._whose == "other receiver":
            receiver = FOUR[0]
        key = configuration.roster.member(receiver).sealing_key
        sealed = domain_keys.seal_seed(seed, key, session, message.key_index, VICTIM)
        signature = self.identity.sign("sealed key", session, message.key_index, VICTIM, sealed)
        return [m.SealedKey(session=session, key_index=message.key_index, sealed=sealed, signature=signature)]


class ChangedPart(Lie):
    """Gives institutions something else than their part of the group secret.

    Args:
        change: Makes it; nothing at all where it returns ``None``.
        to: Who is given it.
        times: From the which part on that one gets: the first (1), or also later ones alone (2).
    """

    def __init__(
        self,
        change: Callable[[GroupSecretPart, Lie, str], GroupSecretPart | None],
        to: Collection[str] = (VICTIM,),
    ) -> None:
        self._change = change
        self._to = to

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.GroupPart) or name not in self._to:
            return [message]
        part = self._change(GroupSecretPart.from_bytes(message.payload), self, name)
        return [] if part is None else [m.GroupPart(payload=part.to_bytes())]


def withheld(part: GroupSecretPart, lie: Lie, name: str) -> None:
    return None


def altered_box(part: GroupSecretPart, lie: Lie, name: str) -> GroupSecretPart:
    return part.model_copy(update={"box": bytes(len(part.box))})


def other_commitment(part: GroupSecretPart, lie: Lie, name: str) -> GroupSecretPart:
    return part.model_copy(update={"header": part.header.model_copy(update={"commitment": bytes(32)})})


def own_secret(part: GroupSecretPart, lie: Lie, name: str) -> GroupSecretPart:
    """A secret that the coordinator has drawn, in the name of the institution that made the session's."""
    configuration, maker = lie.session._configuration, part.header.sender
    mine = Identity.generate()
    roster = changed(configuration.roster, maker, identity_key=mine.public_key)
    about = (configuration.session, configuration.hash)
    scheme = configuration.plan.secure_aggregation
    offer = groups.make_offer(scheme, *about, roster, maker, mine, decryptions=configuration.decryptions)
    _, parts = groups.route_offer(scheme, offer, *about, roster, maker, decryptions=configuration.decryptions)
    return GroupSecretPart.from_bytes(parts[name])


class TwoSecrets(Lie):
    """Has a second institution make a group secret, and gives the victim that one's.

    Args:
        after: Whether the victim gets it after the first one; else in its place.
    """

    def __init__(self, *, after: bool) -> None:
        self._after = after
        self._part: m.GroupPart | None = None
        self._held: m.GroupPart | None = None

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if isinstance(message, m.GroupRequest):
            self.stage.tell(FOUR[1], message)
        if not isinstance(message, m.GroupPart) or name != VICTIM:
            return [message]
        self._held = message
        told: list[TaggedMessage] = [message] if self._after else []
        return [*told, self._part] if self._part is not None else told

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        if not isinstance(message, m.GroupOffer) or name != FOUR[1]:
            return message
        configuration = self.session._configuration
        about = (configuration.plan.secure_aggregation, message.payload, configuration.session)
        _, parts = groups.route_offer(
            *about, configuration.hash, configuration.roster, name, decryptions=configuration.decryptions
        )
        self._part = m.GroupPart(payload=parts[VICTIM])
        if self._held is not None:
            self.stage.tell(VICTIM, self._part)
        return None


class AnotherSecretOnReturn(TwoSecrets):
    """Cuts the victim's connection after round 1; when it is back, gives it a secret of another maker."""

    def __init__(self) -> None:
        super().__init__(after=False)
        self._cut = False

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if isinstance(message, m.GroupRequest):
            self.stage.tell(FOUR[1], message)
        if isinstance(message, m.RoundEnd) and name == VICTIM and not self._cut:
            self._cut = True
            self.stage.service._outboxes[name].connection.transport.abort()
            return []
        if isinstance(message, m.GroupPart) and name == VICTIM and self._cut:
            assert self._part is not None
            return [self._part]
        return [message]


class AnotherSession(Lie):
    """Offers the victim another session in the middle of this one."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundStart) or name != VICTIM or message.round != 2:
            return [message]
        configuration = self.session._configuration
        other = with_fields(configuration, session=bytes(16))
        head = self.session._witness.own(0, LogHead(bytes(16), 0, bytes(32)))
        offer = m.SessionOffer(
            configuration=other.to_bytes(),
            signature=self.identity.sign("session offer", other.hash),
            head=head,
        )
        return [offer, message]


class LostLog(Lie):
    """Cuts the victim's connection after round 1, and is back with the log of before it."""

    def __init__(self) -> None:
        self._first: m.SessionOffer | None = None
        self._cut = False

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if name != VICTIM:
            return [message]
        if isinstance(message, m.SessionOffer):
            self._first = self._first or message
            return [message.model_copy(update={"head": self._first.head})]
        if isinstance(message, m.RoundStart) and message.round == 2 and not self._cut:
            self._cut = True
            self.stage.service._outboxes[name].connection.transport.abort()
        return [message]
