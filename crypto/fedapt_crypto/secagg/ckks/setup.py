"""How a session's group key comes to be and to its institutions, once before the first round.

1. The first institution of the roster makes a context and the group secret g (`make_group`) and sends the
   coordinator an offer: a signed header, and the secret part sealed to each institution's roster key.
2. The coordinator checks the offer, keeps the parameters, and passes each institution its part
   (`route_offer`).
3. Each institution checks the header against its own roster, opens its part, and lets a worker process check
   the context (`open_group`). This is the only context that anybody ever takes from a peer.

The key maker gets a part too, with which it can come back after a restart. The header commits to the secret
part, so a key maker that seals different secrets to different receivers is found out on opening.
"""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Final

from fedapt_crypto.errors import ContextMismatch, InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import Part
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg.ckks.flooding import DEFAULT_DECRYPTIONS, MAX_DECRYPTIONS
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.group import GroupKey, PublicGroup, commitment
from fedapt_crypto.secagg.ckks.journal import Journal
from fedapt_crypto.secagg.ckks.messages import (
    GROUP_SECRET_BYTES,
    GroupDelivery,
    GroupHeader,
    GroupOffer,
    GroupPlaintext,
    SealedHash,
)
from fedapt_crypto.secagg.ckks.parameters import MAX_INSTITUTIONS, MIN_INSTITUTIONS, require_tenseal
from fedapt_crypto.secagg.ckks.process import Worker
from fedapt_crypto.secagg.signed import UNSIGNED

_PRIVATE: Final = b"\x01"
_PUBLIC: Final = b"\x00"


def make_group(
    session: bytes,
    roster: Roster,
    name: str,
    identity: Identity,
    *,
    decryptions: int = DEFAULT_DECRYPTIONS,
    journal: Journal | None = None,
) -> tuple[GroupKey, bytes]:
    """Make a session's group key; for the first institution of the roster.

    Args:
        session: The session's identifier, 16 bytes.
        roster: The approved roster.
        name: Our name, which must be the roster's first.
        identity: Our signing key.
        decryptions: How many pieces the session may decrypt in all: rounds times attempts times
            `parameters.pieces_of` the vector. All sides must agree; the noise grows with its square root.
        journal: Where the key's use is recorded; by default in memory only.

    Returns:
        The key, and the offer to send to the coordinator.

    Raises:
        InvalidInput: If we are not the key maker, the numbers do not fit, or TenSEAL is not installed.
        RunFailed: If TenSEAL fails.
    """
    _check_numbers(roster, decryptions)
    if name != _key_maker(roster) or roster.member(name).identity_key != identity.public_key:
        raise InvalidInput(f"only {_key_maker(roster)}, the first of the roster, makes the group key")
    maker = Worker()
    secret_context, public_context = maker.call(Operation.NEW)
    maker.close()
    secret = secrets.token_bytes(GROUP_SECRET_BYTES)
    sealed = []
    for member in roster.members:
        plaintext = GroupPlaintext(
            session=session,
            roster_hash=roster.hash,
            sender=name,
            receiver=member.name,
            secret_context=secret_context,
            secret=secret,
        )
        info = _seal_info(session, roster, name, member.name)
        sealed.append(seal(member.sealing_key, plaintext.to_bytes(), *info))
    unsigned = GroupHeader(
        sender=name,
        signature=UNSIGNED,
        session=session,
        roster_hash=roster.hash,
        decryptions=decryptions,
        public_context=public_context,
        commitment=commitment(secret_context, secret),
        receivers=tuple(
            SealedHash(receiver=receiver, sealed_hash=_hash(part))
            for receiver, part in zip(roster.names, sealed, strict=True)
        ),
    )
    offer = GroupOffer(header=unsigned.signed_by(identity), sealed=tuple(sealed))
    key = GroupKey(
        session=session,
        roster_hash=roster.hash,
        decryptions=decryptions,
        public_context=public_context,
        secret_context=secret_context,
        secret=secret,
        journal=journal,
    )
    return key, offer.to_bytes()


def route_offer(
    payload: bytes,
    session: bytes,
    roster: Roster,
    sender: str,
    *,
    decryptions: int = DEFAULT_DECRYPTIONS,
) -> tuple[PublicGroup, Mapping[str, bytes]]:
    """Check the key maker's offer; for the coordinator.

    Returns:
        The coordinator's part of the group, and what to send to each institution (the key maker too).

    Raises:
        MalformedMessage, ContextMismatch, VerificationFailed: If it is not the key maker's offer for this
            session and roster.
        InvalidInput: If the numbers do not fit or TenSEAL is not installed.
    """
    _check_numbers(roster, decryptions)
    offer = GroupOffer.from_bytes(payload)
    header = offer.header
    if sender != header.sender:
        raise VerificationFailed("sent a group offer in another's name", peer=sender)
    _check_header(header, session, roster, decryptions)
    if tuple(_hash(part) for part in offer.sealed) != tuple(entry.sealed_hash for entry in header.receivers):
        raise VerificationFailed("sealed other secrets than it signed for", peer=sender)
    worker = Worker(header.public_context)
    _check_context(worker, header.public_context, _PUBLIC, sender)
    group = PublicGroup(
        session=session,
        roster_hash=roster.hash,
        decryptions=decryptions,
        public_context=header.public_context,
        worker=worker,
    )
    deliveries = {
        receiver: GroupDelivery(header=header, sealed=part).to_bytes()
        for receiver, part in zip(roster.names, offer.sealed, strict=True)
    }
    return group, deliveries


def open_group(
    payload: bytes,
    session: bytes,
    roster: Roster,
    name: str,
    sealing_key: SealingKey,
    *,
    decryptions: int = DEFAULT_DECRYPTIONS,
    journal: Journal | None = None,
) -> GroupKey:
    """Open our part of the group; for every institution but the key maker, and for it after a restart.

    Raises:
        MalformedMessage, ContextMismatch, VerificationFailed: If it is not from the roster's first
            institution, for this session, roster and receiver, and sound.
        InvalidInput: If the numbers do not fit, we are not on the roster, TenSEAL is not installed, or the
            journal says that the key is burned.
    """
    _check_numbers(roster, decryptions)
    roster.index(name)
    delivery = GroupDelivery.from_bytes(payload)
    header = delivery.header
    _check_header(header, session, roster, decryptions)
    entry = next(entry for entry in header.receivers if entry.receiver == name)
    if _hash(delivery.sealed) != entry.sealed_hash:
        raise VerificationFailed("the sealed group key is not the one that was signed for")
    opened = sealing_key.open(delivery.sealed, *_seal_info(session, roster, header.sender, name))
    plaintext = GroupPlaintext.from_bytes(opened)
    bound = (plaintext.session, plaintext.roster_hash, plaintext.sender, plaintext.receiver)
    if bound != (session, roster.hash, header.sender, name):
        raise ContextMismatch("sealed the group key of another session", peer=header.sender)
    if commitment(plaintext.secret_context, plaintext.secret) != header.commitment:
        raise VerificationFailed("sealed another group key than it committed to", peer=header.sender)
    # Parameters are all there is in the public part, so both belong together if both are the agreed ones.
    worker = Worker(plaintext.secret_context)
    for context, expected in ((header.public_context, _PUBLIC), (plaintext.secret_context, _PRIVATE)):
        _check_context(worker, context, expected, header.sender)
    return GroupKey(
        session=session,
        roster_hash=roster.hash,
        decryptions=decryptions,
        public_context=header.public_context,
        secret_context=plaintext.secret_context,
        secret=plaintext.secret,
        worker=worker,
        journal=journal,
    )


def is_part_of(payload: bytes, group: GroupKey) -> bool:
    """Return whether a delivered part is of a group that we hold already; if not, it is to be opened.

    The two differ when the key maker has lost its key in a restart and made another one before it learned
    that the session has one.

    Raises:
        MalformedMessage: If the part does not decode.
    """
    return GroupDelivery.from_bytes(payload).header.commitment == group.commitment


def _check_header(header: GroupHeader, session: bytes, roster: Roster, decryptions: int) -> None:
    maker = _key_maker(roster)
    if header.sender != maker:
        raise VerificationFailed(
            f"{header.sender} made a group key where {maker}, the first of the roster, must"
        )
    header.check_signature(roster)
    if (header.session, header.roster_hash, header.decryptions) != (session, roster.hash, decryptions):
        raise ContextMismatch("made a group key for another session, roster or plan", peer=maker)
    if tuple(entry.receiver for entry in header.receivers) != roster.names:
        raise MalformedMessage("made a group key for other receivers than the roster's", peer=maker)


def _check_context(worker: Worker, context: bytes, expected: bytes, maker: str) -> None:
    """Let the worker check the parameters; the last context checked is the one it works with."""
    if worker.call(Operation.OPEN, context, blame=maker) != (expected,):
        worker.close()
        raise VerificationFailed(
            "made a context with a secret key where none, or none where one, must be", peer=maker
        )


def _check_numbers(roster: Roster, decryptions: int) -> None:
    require_tenseal()
    if not MIN_INSTITUTIONS <= len(roster.members) <= MAX_INSTITUTIONS:
        raise InvalidInput(f"ckks is for {MIN_INSTITUTIONS} to {MAX_INSTITUTIONS} institutions")
    if not 1 <= decryptions <= MAX_DECRYPTIONS:
        raise InvalidInput(
            f"a ckks session decrypts at most {MAX_DECRYPTIONS} pieces: plan fewer or smaller rounds"
        )


def _key_maker(roster: Roster) -> str:
    return roster.names[0]


def _seal_info(session: bytes, roster: Roster, sender: str, receiver: str) -> tuple[Part, ...]:
    return ("ckks group", session, roster.hash, sender, receiver)


def _hash(sealed: bytes) -> bytes:
    return hashlib.sha256(sealed).digest()
