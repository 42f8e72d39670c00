"""What the two sides hold for a session: institutions the one key, the coordinator only its parameters.

`GroupKey` is where the key's rules live: one encryption and one decryption an execution, no more decryptions
than its noise is sized for, and an end at the first failed check. It never hands out a decryption, but the
sum of integers that the contributors have tagged. TenSEAL works in a worker process on both sides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput, MalformedMessage, UnexpectedMessage
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.kdf import Part, digest
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.ckks.flooding import noise
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.journal import DISCARDED, Journal, MemoryJournal
from fedapt_crypto.secagg.ckks.packing import Kappa, Slots, kappa, kappa_mask, pack, unpack
from fedapt_crypto.secagg.ckks.parameters import SLOTS, check_round, pieces_of
from fedapt_crypto.secagg.ckks.process import Worker
from fedapt_crypto.secagg.ckks.structure import check_piece
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_crypto.secagg.tags import tag_from_bytes, tag_to_bytes
from fedapt_crypto.sum_tag import SumCheck


def execution_id(context: RoundContext) -> bytes:
    """Return the identifier that every signature, check value and noise of a round is bound to."""
    return digest("ckks execution", context.hash)


def sum_hash(execution: bytes, pieces: Sequence[bytes], tag: bytes) -> bytes:
    """Return the hash by which institutions sign a sum.

    Args:
        execution: Identifier of the execution, 32 bytes.
        pieces: The sum's ciphertexts.
        tag: T, as it travels.
    """
    return digest("ckks sum", execution, tuple(pieces), tag)


def transcript_id(execution: bytes, contributors: Sequence[str], sum_digest: bytes) -> bytes:
    """Return what stands for a round in its parties' logs: who contributed, and the sum they signed.

    Args:
        execution: Identifier of the execution, 32 bytes.
        contributors: Their names, in roster order.
        sum_digest: What `sum_hash` gives.
    """
    return digest("ckks transcript", execution, tuple(contributors), sum_digest)


class PublicGroup:
    """The coordinator's part: the parameters and a process that adds ciphertexts. Holds no secret key.

    Attributes:
        commitment: What stands for the group secret: which session the group is for.
        decryptions: How many pieces may be decrypted in all.
    """

    def __init__(
        self,
        *,
        commitment: bytes,
        decryptions: int,
        public_context: bytes,
        worker: Worker | None = None,
    ) -> None:
        self.commitment = commitment
        self.decryptions = decryptions
        self.public_context = public_context
        self._worker = Worker(public_context) if worker is None else worker

    def __repr__(self) -> str:
        return f"PublicGroup({self.commitment.hex()})"

    def add(self, total: Sequence[bytes], pieces: Sequence[bytes], peer: str) -> list[bytes]:
        """Return the sum so far plus a peer's ciphertexts; ``total`` is left as it is, whatever happens.

        Args:
            total: Serialized running sum, empty before the first.
            pieces: The peer's ciphertexts.
            peer: Whom to name.

        Raises:
            MalformedMessage: If the pieces are no proper ciphertexts, or crash the process that adds them.
        """
        for piece in pieces:
            check_piece(piece, peer)
        so_far = total or [b""] * len(pieces)
        result = []
        for mine, theirs in zip(so_far, pieces, strict=True):
            (added,) = self._worker.call(Operation.ADD, mine, theirs, blame=peer)
            check_piece(added, peer)
            result.append(added)
        return result

    def close(self) -> None:
        """End the worker process."""
        self._worker.close()


class GroupKey:
    """An institution's part: the secret key, the group secret G, and what has been done with them.

    Attributes:
        commitment: What stands for G: which session the key is for.
        decryptions: How many pieces may be decrypted in all; the noise is sized for it.

    Args:
        journal: Where the key's use is recorded; by default in memory only.

    Raises:
        InvalidInput: If the journal says that the key is burned.
    """

    def __init__(
        self,
        *,
        secret: GroupSecret,
        decryptions: int,
        public_context: bytes,
        secret_context: bytes,
        worker: Worker | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.commitment = secret.commitment
        self.decryptions = decryptions
        self.public_context = public_context
        self._secret_context = secret_context
        self._secret = secret
        self._worker = Worker(secret_context) if worker is None else worker
        self._journal = MemoryJournal() if journal is None else journal
        self._served: set[bytes] = set()
        self._decrypted: set[bytes] = set()
        self._check_live()

    def __repr__(self) -> str:
        return f"GroupKey({self.commitment.hex()}, everything else hidden)"

    @property
    def discarded(self) -> bool:
        """Whether the key is burned."""
        return self._journal.discarded

    def derive(self, label: str, *parts: Part) -> bytes:
        """Return 32 bytes of the group secret for one purpose; raises `InvalidInput` once closed."""
        return self._secret.derive(label, *parts)

    def discard(self) -> None:
        """Burn the key for good: a check has failed. Any later use raises `InvalidInput`."""
        self.close()
        self._journal.discard()

    def close(self) -> None:
        """Forget the secrets and end the worker process: the session is over for this process."""
        self._secret_context = b""
        self._secret.close()
        self._worker.close()

    def check_usable(self, context: RoundContext) -> None:
        """Refuse a round that this key must not or cannot serve.

        Raises:
            InvalidInput: If the key is burned, for another session, used for this round already,
                or out of decryptions, or if the parameters cannot hold the round.
        """
        self._check_fits(context)
        if execution_id(context) in self._served | self._decrypted:
            raise InvalidInput("the group key has served this round already")

    def encrypt(self, context: RoundContext, name: str, words: RingVector) -> tuple[tuple[bytes, ...], bytes]:
        """Encrypt an institution's update with its check values, once in a round.

        Args:
            context: The round.
            name: The institution.
            words: Its update in the round's fixed point, (vector_length,) uint32, two's complement.

        Returns:
            The pieces, and the update's tag as it travels.

        Raises:
            InvalidInput: See `check_usable`.
            RunFailed: If TenSEAL fails.
        """
        self.check_usable(context)
        execution = execution_id(context)
        self._journal.encrypting(execution)
        self._served.add(execution)
        slots = pack(words, self._mask(context), self._kappa(context, name))
        pieces = tuple(
            self._worker.call(Operation.ENCRYPT, row.astype("<f8", copy=False).tobytes())[0] for row in slots
        )
        return pieces, tag_to_bytes(self._sum_check(context).tag(name, words))

    def decrypt(
        self, context: RoundContext, contributors: Sequence[str], pieces: Sequence[bytes], tag: bytes
    ) -> NDArray[np.float64]:
        """Decrypt a round's sum, check it by its tag and return it with noise, once in a round.

        Args:
            context: The round.
            contributors: Whose ciphertexts the sum must be of.
            pieces: The sum's ciphertexts.
            tag: T as it travels, the sum of the contributors' tags.

        Returns:
            The sum, shape (vector_length,), the same bits for every institution.

        Raises:
            MalformedMessage, SumCheckFailed: If it is not that sum; the key is burned.
            UnexpectedMessage: If the key has decrypted in this round.
            VerificationFailed: If it did so before a restart, and that was another sum.
            InvalidInput: If the key is burned, for another session, or out of decryptions.
        """
        self._check_fits(context)
        execution = execution_id(context)
        if execution in self._decrypted:
            raise UnexpectedMessage("a second sum for one round")
        self._decrypted.add(execution)
        hashed = sum_hash(execution, pieces, tag)
        self._journal.decrypting(execution, hashed, len(pieces))
        # The noise belongs to this very ciphertext: two that differ by a known amount would cancel it.
        noise_key = self._derive("noise", execution, tuple(contributors), hashed)
        try:
            total = self._checked(context, contributors, pieces, tag)
        except Exception:  # whatever went wrong: a key whose sum did not hold is never used again
            self.discard()
            raise
        sizes = {"participants": context.participants, "decryptions": self.decryptions}
        flooded = noise(noise_key, context.vector_length, **sizes) + total.view(np.int32)
        real = flooded.astype(np.float64)  # under 2**53
        real *= context.fixed_point.resolution
        return real

    def _checked(
        self, context: RoundContext, contributors: Sequence[str], pieces: Sequence[bytes], tag: bytes
    ) -> RingVector:
        """Return X, exact, if it is the sum of what these contributors have tagged."""
        sum_tag = tag_from_bytes(tag, COORDINATOR)
        kappa_sum = np.sum([self._kappa(context, name) for name in contributors], axis=0)
        slots = self._open(pieces, pieces_of(context.vector_length))
        total = unpack(slots, self._mask(context), kappa_sum, context.vector_length)
        limit = context.fixed_point.limit
        self._sum_check(context).verify(total, sum_tag, contributors, limit=limit)
        return total

    def _sum_check(self, context: RoundContext) -> SumCheck:
        """What makes and checks the tags of an execution; it has no transcript yet when the first is made."""
        execution = execution_id(context)
        return self._secret.sum_check(execution, execution, length=context.vector_length)

    def _open(self, pieces: Sequence[bytes], expected: int) -> Slots:
        if len(pieces) != expected:
            raise MalformedMessage("the sum has another number of ciphertexts than the update")
        for piece in pieces:
            check_piece(piece)
        rows = [self._worker.call(Operation.DECRYPT, piece, blame=COORDINATOR)[0] for piece in pieces]
        if any(len(row) != SLOTS * 8 for row in rows):
            raise MalformedMessage("a ciphertext that does not decrypt")
        return np.frombuffer(b"".join(rows), "<f8").reshape(expected, SLOTS)

    def _mask(self, context: RoundContext) -> NDArray[np.bool_]:
        return kappa_mask(self._derive("kappa slots", execution_id(context)), context.vector_length)

    def _kappa(self, context: RoundContext, name: str) -> Kappa:
        return kappa(self._derive("kappa", execution_id(context), name), context.vector_length)

    def _derive(self, purpose: str, *parts: Part) -> bytes:
        self._check_live()
        return self._secret.derive(f"ckks {purpose}", *parts)

    def _check_fits(self, context: RoundContext) -> None:
        self._check_live()
        check_round(context)
        if context.group != self.commitment:
            raise InvalidInput("the group key is for another session")
        earlier = self._journal.decrypted_pieces(apart_from=execution_id(context))
        if earlier + pieces_of(context.vector_length) > self.decryptions:
            raise InvalidInput(
                f"the group key's noise is sized for {self.decryptions} decrypted pieces: start a new session"
            )

    def _check_live(self) -> None:
        if self._journal.discarded:
            self.close()
            raise InvalidInput(DISCARDED)
        if not self._secret_context:
            raise InvalidInput("the group key was closed with its session")
