"""What an institution opens of the coordinator's secrets: its own domain key, and all of them in the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedapt_crypto import domain_keys
from fedapt_crypto.errors import ContextMismatch, UnexpectedMessage, VerificationFailed
from fedapt_crypto.identity import verify
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.group_secret import maker_in
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.log.heads import RoundRecord, transcript_digest, unpack_rounds
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.plan import MAX_ATTEMPTS
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.statements import caught_up


@dataclass(frozen=True, repr=False)
class Finished:
    """A finished session: what it was, its model (flat parameters), and all domain keys."""

    configuration: SessionConfiguration
    model: Vector
    domain_keys: tuple[Vector, ...]


def signed_configuration(
    kind: str, message: m.SessionOffer | m.Rehearse, roster: Roster
) -> SessionConfiguration:
    """Return a session's configuration that the roster's coordinator has signed.

    Args:
        kind: What it is for: ``session offer`` or ``rehearsal``.
        message: Has it, and the signature on kind and hash.
        roster: The approved roster.

    Raises:
        PeerError: If it does not decode, or is not signed for this.
    """
    configuration = SessionConfiguration.from_bytes(message.configuration)
    verify(roster.coordinator_key, message.signature, kind, configuration.hash, signer=COORDINATOR)
    return configuration


def open_own_key(
    message: m.SealedKey,
    configuration: SessionConfiguration,
    roster: Roster,
    name: str,
    sealing_key: SealingKey,
) -> bytes:
    """Return the seed of our domain key.

    Args:
        message: What the coordinator sent.
        configuration: The session.
        roster: The approved roster.
        name: Our name on it.
        sealing_key: Our key for sealed messages.

    Raises:
        VerificationFailed: If the coordinator did not sign it, or it is not the one that was committed to.
        ContextMismatch: If it is for another session or key.
    """
    index = configuration.key_index(name)
    parts = (message.session, message.key_index, name, message.sealed)
    verify(roster.coordinator_key, message.signature, "sealed key", *parts, signer=COORDINATOR)
    if (message.session, message.key_index) != (configuration.session, index):
        raise ContextMismatch("the sealed key is for another session or institution")
    seed = domain_keys.open_seed(message.sealed, sealing_key, configuration.session, index, name)
    domain_keys.check_seed(seed, configuration.session, index, configuration.key_commitments[index])
    return seed


def own_key(
    configuration: SessionConfiguration, name: str, seed: bytes | None, group: InstitutionGroup | None
) -> Vector:
    """Return our domain key, flat.

    Args:
        configuration: The session.
        name: Our name.
        seed: What it is made from.
        group: What we hold of the session's group.

    Raises:
        UnexpectedMessage: If the seed has not come, or did not hold: no round can be ours before it has.
    """
    if seed is None:
        raise UnexpectedMessage("a round started before the domain key arrived")
    return expand_key(configuration, configuration.key_index(name), seed, group)


def check_round(start: m.RoundStart, configuration: SessionConfiguration, name: str) -> tuple[str, ...]:
    """Refuse a round that the session does not have, or not for us.

    Args:
        start: The round.
        configuration: The session.
        name: Our name.

    Returns:
        Who begins it, as the coordinator says.

    Raises:
        UnexpectedMessage: If it is such a one.
        MalformedMessage: If who begins it is no part of the round's roster.
    """
    if start.round > configuration.plan.rounds:
        raise UnexpectedMessage(f"the session has no round {start.round}", peer=COORDINATOR)
    names = configuration.round_roster(start.round).names
    if name not in names:
        raise UnexpectedMessage(f"round {start.round} is not ours by the session's rule", peer=COORDINATOR)
    participants = tuple(names[index] for index in parties.unpack(start.participants, len(names)))
    if name not in participants:
        raise UnexpectedMessage(f"round {start.round} begins without us", peer=COORDINATOR)
    return participants


def check_session_end(
    end: m.SessionEnd, configuration: SessionConfiguration, roster: Roster, model_id: bytes
) -> Sequence[RoundRecord]:
    """Check that the coordinator signed the end, for this model, and that it opens every domain key.

    Returns:
        How all rounds went, as the coordinator says.

    Raises:
        PeerError: If one of them does not hold.
    """
    rounds = unpack_rounds(end.rounds)
    if len(rounds) > MAX_ATTEMPTS * configuration.plan.rounds:
        raise VerificationFailed("the session end tells of more attempts than a session has")
    parts = (configuration.hash, model_id, end.key_seeds, transcript_digest(rounds))
    verify(roster.coordinator_key, end.signature, "session end", *parts, signer=COORDINATOR)
    if len(end.key_seeds) != len(configuration.key_commitments):
        raise VerificationFailed("the session end does not open every domain key")
    pairs = zip(end.key_seeds, configuration.key_commitments, strict=True)
    for index, (seed, commitment) in enumerate(pairs):
        domain_keys.check_seed(seed, configuration.session, index, commitment)
    return rounds


def expand_key(
    configuration: SessionConfiguration, index: int, seed: bytes, group: InstitutionGroup | None
) -> Vector:
    """Return a domain key of a session.

    Args:
        configuration: The session.
        index: Which of its keys.
        seed: The key's seed.
        group: What we hold of the session's group.

    Raises:
        UnexpectedMessage: If the key follows from the group secret, and we have none yet.
    """
    shared = group if configuration.keys_are_shared else None
    if configuration.keys_are_shared and shared is None:
        raise UnexpectedMessage("domain keys are needed before the group secret has come", peer=COORDINATOR)
    return domain_keys.expand(seed, configuration.session, index, configuration.plan.shape.key, shared)


def expand_keys(
    configuration: SessionConfiguration, seeds: tuple[bytes, ...], group: InstitutionGroup | None
) -> tuple[Vector, ...]:
    """Return all domain keys of a session, as `expand_key` does.

    Args:
        configuration: The session.
        seeds: The keys' seeds, in order.
        group: What we hold of the session's group.
    """
    return tuple(expand_key(configuration, index, seed, group) for index, seed in enumerate(seeds))


GroupOpener = Callable[[SessionConfiguration, bytes], InstitutionGroup]
"""Opens our part of a session's group secret with the institution's keys."""


def check_finished(
    sent: m.FinishedModel, roster: Roster, wanted: bytes | None, open_group: GroupOpener
) -> Finished:
    """Check a finished session that was fetched: the coordinator's signatures, commitments, and the model.

    Its institutions state the model. The session's roster may be an earlier one than that approved now; the
    coordinator's key may not, and only institutions that are approved now count: others may be made up.

    Args:
        sent: What the coordinator sent.
        roster: The approved roster.
        wanted: The session that was asked for; ``None`` for any.
        open_group: Opens our part of the group secret, from which domain keys follow.

    Raises:
        PeerError: If something does not hold, or it is another session than the one ``wanted``.
        InvalidInput: If our keys do not open our part.
    """
    configuration = SessionConfiguration.from_bytes(sent.configuration)
    parts = (sent.signature, "session offer", configuration.hash)
    verify(roster.coordinator_key, *parts, signer=COORDINATOR)
    if wanted is not None and configuration.session != wanted:
        raise ContextMismatch("it is of another session than the one that was asked for", peer=COORDINATOR)
    if configuration.blind:
        raise ContextMismatch("nobody but its institutions has the model of this session (CKKS)")
    end, newest = m.SessionEnd.from_bytes(sent.end), m.CatchUp.from_bytes(sent.model)
    known = {member.name: member.identity_key for member in roster.members}
    ours = {one.name for one in configuration.roster.members if known.get(one.name) == one.identity_key}
    counted = tuple(one for one in newest.signatures if one.party in ours)
    model = caught_up(configuration, newest.model_copy(update={"signatures": counted}))
    check_session_end(end, configuration, roster, newest.statement.model_after)
    group = None
    if configuration.keys_are_shared:
        if maker_in(sent.group) not in ours:
            raise VerificationFailed("nobody on the approved roster has made the session's group secret")
        group = open_group(configuration, sent.group)
    try:
        return Finished(configuration, model, expand_keys(configuration, end.key_seeds, group))
    finally:
        if group is not None:
            group.close()
