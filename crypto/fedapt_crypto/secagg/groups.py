"""How a session's group secret comes to be under each scheme: offered by one, routed, opened by all.

`group_secret` has the secret itself, which every scheme but `plain` needs; CKKS adds a key to it.
"""

from collections.abc import Mapping

from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import group_secret
from fedapt_crypto.secagg.ckks import setup
from fedapt_crypto.secagg.ckks.journal import Journal
from fedapt_crypto.secagg.registry import CKKS, NONE
from fedapt_crypto.secagg.scheme import CoordinatorGroup, InstitutionGroup


def needs_group(scheme: str) -> bool:
    """Whether a scheme's institutions share a secret before the first round."""
    return scheme != NONE


def make_offer(
    scheme: str,
    session: bytes,
    configuration_hash: bytes,
    roster: Roster,
    name: str,
    identity: Identity,
    *,
    decryptions: int,
) -> bytes:
    """Draw a session's group secret and return the offer of it; nothing of it stays with the maker.

    Args:
        scheme: The session's scheme.
        session: The session's identifier.
        configuration_hash: Hash of its whole configuration.
        roster: Its roster.
        name: The maker's name on it.
        identity: The maker's signing key.
        decryptions: How many pieces are decrypted at most; for ``ckks``.

    Raises:
        InvalidInput: If the scheme has none, the numbers do not fit, or the maker is not on the roster.
        VerificationFailed: If a member's sealing key is none.
        RunFailed: If TenSEAL fails.
    """
    secret = group_secret.GroupSecret.fresh(session)
    attachment = setup.make_attachment(secret, decryptions=decryptions) if scheme == CKKS else b""
    try:
        return secret.offer(configuration_hash, roster, name, identity, attachment)
    finally:
        secret.close()


def route_offer(
    scheme: str,
    payload: bytes,
    session: bytes,
    configuration_hash: bytes,
    roster: Roster,
    sender: str,
    *,
    decryptions: int,
) -> tuple[CoordinatorGroup, Mapping[str, bytes]]:
    """Check the offer of a group secret; for the coordinator.

    Args:
        scheme: The session's scheme.
        payload: The offer.
        session: The session's identifier.
        configuration_hash: Hash of its whole configuration.
        roster: Its roster.
        sender: Who sent it.
        decryptions: How many pieces are decrypted at most; for ``ckks``.

    Returns:
        The coordinator's part, and what to send to each institution.

    Raises:
        PeerError: If it is not the sender's offer for this session.
        InvalidInput: If the numbers do not fit.
    """
    routed = group_secret.route_offer(payload, session, configuration_hash, roster, sender)
    if scheme == CKKS:
        return setup.public_group(routed, decryptions=decryptions), routed.parts
    _refuse_attachment(routed.attachment, sender)
    return routed, routed.parts


def open_part(
    scheme: str,
    payload: bytes,
    session: bytes,
    configuration_hash: bytes,
    roster: Roster,
    name: str,
    sealing_key: SealingKey,
    *,
    decryptions: int,
    journal: Journal | None = None,
) -> InstitutionGroup:
    """Open an institution's part of the group secret, and what comes with it.

    Args:
        scheme: The session's scheme.
        payload: What the coordinator sent.
        session: The session's identifier.
        configuration_hash: Hash of its whole configuration.
        roster: Our own approved roster.
        name: Our name on it.
        sealing_key: Our key for sealed messages.
        decryptions: How many pieces are decrypted at most; for ``ckks``.
        journal: Where a key's use is recorded; for ``ckks``.

    Raises:
        PeerError: If it is not a member's offer for this session, or not all that was signed for.
        InvalidInput: If we are not on the roster, the numbers do not fit, or the key is burned.
    """
    opened = group_secret.open_part(payload, session, configuration_hash, roster, name, sealing_key)
    if scheme == CKKS:
        return setup.open_group(opened, decryptions=decryptions, journal=journal)
    _refuse_attachment(opened.attachment, opened.maker)
    return opened.secret


def _refuse_attachment(attachment: bytes, maker: str) -> None:
    if attachment:
        raise MalformedMessage("attached something to the group secret of a scheme without", peer=maker)
