"""The package behind the function names of the reference; no ciphertext is made or read."""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.secagg.ckks import flooding, group, messages, packing
from fedapt_crypto.secagg.ckks.parameters import SLOTS, UNIT, pieces_of
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.scheme import RoundContext

SESSION = bytes(16)


class _Key(group.GroupKey):
    """A key whose ciphertexts are opened already.

    Args:
        secret: G.
        slots: What the sum decrypts to.
    """

    def __init__(self, secret: bytes, slots: np.ndarray | None = None) -> None:
        about = {"decryptions": 1, "public_context": b"", "secret_context": b"opened"}
        super().__init__(secret=GroupSecret(SESSION, secret), **about)
        self.slots = slots

    def _open(self, pieces: Sequence[bytes], expected: int) -> np.ndarray:
        assert self.slots is not None
        assert len(self.slots) == expected
        return self.slots


def _words(update: Sequence[int]) -> np.ndarray:
    return np.array(update, np.int64).astype(np.uint32)


def _in(execution: bytes):
    """Stand an execution in for that of any context."""
    return patch.object(group, "execution_id", lambda context: execution)


def _context(length: int, participants: int = 3) -> SimpleNamespace:
    fixed = FixedPoint(participants, 1.0)
    return SimpleNamespace(vector_length=length, participants=participants, fixed_point=fixed)


def ckks_execution(context_hash: bytes) -> bytes:
    with patch.object(RoundContext, "hash", context_hash):
        context = RoundContext.model_construct()
        assert group.execution_id(context) == digest("ckks execution", context_hash)
        return group.execution_id(context)


def ckks_places(secret: bytes, execution: bytes, length: int) -> list[list[int]]:
    with _in(execution):
        return [np.flatnonzero(row).tolist() for row in _Key(secret)._mask(_context(length))]


def ckks_kappa(secret: bytes, execution: bytes, name: str, length: int) -> list[int]:
    with _in(execution):
        return _Key(secret)._kappa(_context(length), name).reshape(-1).tolist()


def ckks_pack(secret: bytes, execution: bytes, name: str, update: Sequence[int]) -> dict[str, object]:
    with _in(execution):
        key, context = _Key(secret), _context(len(update))
        mask, own = key._mask(context), key._kappa(context, name)
        slots = packing.pack(_words(update), mask, own)
    checks = [[int(piece), int(place), int(slots[piece, place] / UNIT)] for piece, place in np.argwhere(mask)]
    return {"kappa": checks, "slots": hashlib.sha256(slots.astype("<f8").tobytes()).digest()}


def ckks_tag(secret: bytes, execution: bytes, name: str, update: Sequence[int]) -> bytes:
    with _in(execution):
        return _Key(secret)._sum_check(_context(len(update))).tag(name, _words(update)).to_bytes(8)


ckks_sum_hash = group.sum_hash


def ckks_transcript(execution: bytes, contributors: Sequence[str], sum_hash: bytes) -> bytes:
    return group.transcript_id(execution, contributors, sum_hash)


def ckks_signature(
    identity: bytes, sender: str, execution: bytes, contributors: Sequence[str], sum_hash: bytes
) -> bytes:
    message = messages.ContributorSignature(
        sender=sender,
        signature=bytes(64),
        execution=execution,
        contributors=tuple(contributors),
        sum_hash=sum_hash,
    )
    return message.signed_by(Identity.from_private_bytes(identity)).signature


def ckks_update_signature(
    identity: bytes, sender: str, execution: bytes, byte: bytes, size: int, tag: bytes
) -> bytes:
    message = messages.CkksUpdate(
        sender=sender, signature=bytes(64), execution=execution, pieces=(byte * size,), update_tag=tag
    )
    return message.signed_by(Identity.from_private_bytes(identity)).signature


def ckks_open(
    secret: bytes,
    execution: bytes,
    participants: int,
    contributors: Sequence[str],
    length: int,
    slots: Sequence[Sequence[float]],
    tag: bytes,
) -> list[int]:
    dense = np.zeros((pieces_of(length), SLOTS))
    for piece, place, decrypted in slots:
        dense[piece, place] = decrypted * UNIT
    with _in(execution):
        context = _context(length, participants)
        total = _Key(secret, dense)._checked(context, contributors, [b""], tag)
    return total.view(np.int32).tolist()


def ckks_noise(
    secret: bytes,
    execution: bytes,
    contributors: Sequence[str],
    sum_hash: bytes,
    participants: int,
    decryptions: int,
    count: int,
) -> list[int]:
    key = _Key(secret)._derive("noise", execution, tuple(contributors), sum_hash)
    return flooding.noise(key, count, participants=participants, decryptions=decryptions).tolist()
