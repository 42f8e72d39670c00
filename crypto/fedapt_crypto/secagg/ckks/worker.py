"""The process in which TenSEAL runs: ``python -m fedapt_crypto.secagg.ckks.worker``.

TenSEAL can be crashed by bytes that a peer made, so nothing else lives here. Requests come on standard input
and answers go to standard output, one at a time, in length-prefixed frames (see `frames`); the process ends
when its parent closes the pipe or is gone. It opens no file and no socket and holds one context at a time.
TenSEAL prints warnings to standard output, so the answers leave by a copy of that descriptor.
"""

import contextlib
import os
import resource
import sys
from array import array
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

from fedapt_crypto.secagg.ckks.frames import LENGTH, MAX_FRAME_BYTES, Operation, Status, join, split
from fedapt_crypto.secagg.ckks.parameters import COEFFICIENT_BITS, DEGREE, SCALE, SLOTS

_ADDRESS_SPACE_BYTES: Final = 4 << 30
_OPEN_FILES: Final = 32
_SAVE: Final = {"save_public_key": False, "save_galois_keys": False, "save_relin_keys": False}


class Refused(Exception):
    """A ciphertext or context that parses and is not what was agreed."""


class TenSEAL:
    """The five operations, around one context."""

    def __init__(self) -> None:
        import tenseal  # noqa: PLC0415 - only here, see the module's docstring

        self._tenseal = tenseal
        self._context: Any = None

    def new(self) -> tuple[bytes, ...]:
        """Create a key; return the context with it and without."""
        context = self._fresh()
        return context.serialize(save_secret_key=True, **_SAVE), context.serialize(
            save_secret_key=False, **_SAVE
        )

    def open(self, serialized: bytes) -> tuple[bytes, ...]:
        """Take a context as the one to work with; return whether it has a secret key, one byte."""
        context = self._tenseal.context_from(serialized, n_threads=1)
        self._check_parameters(context)
        self._context = context
        return (bytes([context.is_private()]),)

    def encrypt(self, slots: bytes) -> tuple[bytes, ...]:
        """Encrypt one piece, ``SLOTS`` float64 values."""
        values = array("d", slots)
        if len(values) != SLOTS:
            raise Refused
        return (self._tenseal.ckks_vector(self._context, values.tolist()).serialize(),)

    def add(self, total: bytes, piece: bytes) -> tuple[bytes, ...]:
        """Add a foreign ciphertext to a sum so far, which is empty at first."""
        foreign = self._load(piece)
        if not total:
            return (foreign.serialize(),)
        own = self._load(total)
        own.add_(foreign)
        return (own.serialize(),)

    def decrypt(self, piece: bytes) -> tuple[bytes, ...]:
        """Decrypt one piece."""
        if not self._context.is_private():
            raise Refused
        values = array("d", self._load(piece).decrypt())
        if len(values) != SLOTS:
            raise Refused
        return (values.tobytes(),)

    def _fresh(self) -> Any:
        context = self._tenseal.context(
            self._tenseal.SCHEME_TYPE.CKKS,
            DEGREE,
            coeff_mod_bit_sizes=list(COEFFICIENT_BITS),
            encryption_type=self._tenseal.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )
        context.global_scale = SCALE
        return context

    def _check_parameters(self, context: Any) -> None:
        # SEAL's identifier of parameters is a hash of scheme, degree and primes.
        ours, theirs = self._fresh().seal_context().data, context.seal_context().data
        if ours.key_parms_id() != theirs.key_parms_id() or context.global_scale != SCALE:
            raise Refused
        if context.has_galois_keys() or context.has_relin_keys():
            raise Refused

    def _load(self, piece: bytes) -> Any:
        vector = self._tenseal.ckks_vector_from(self._context, piece)
        ciphertexts = vector.ciphertext()
        if vector.size() != SLOTS or len(ciphertexts) != 1:
            raise Refused
        ciphertext = ciphertexts[0]
        shape = (ciphertext.size(), ciphertext.poly_modulus_degree(), ciphertext.coeff_modulus_size())
        if shape != (2, DEGREE, 1) or ciphertext.scale != SCALE or not ciphertext.is_ntt_form():
            raise Refused
        if ciphertext.parms_id() != self._context.seal_context().data.first_parms_id():
            raise Refused
        if ciphertext.is_transparent():
            raise Refused
        return vector


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the other end closes."""
    engine = TenSEAL()
    operations: Mapping[Operation, Callable[..., tuple[bytes, ...]]] = {
        Operation.NEW: engine.new,
        Operation.OPEN: engine.open,
        Operation.ENCRYPT: engine.encrypt,
        Operation.ADD: engine.add,
        Operation.DECRYPT: engine.decrypt,
    }
    while header := requests.read(LENGTH.size):
        (size,) = LENGTH.unpack(header)
        if size > MAX_FRAME_BYTES:
            return
        body = requests.read(size)
        if len(body) != size:
            return
        try:
            answer = bytes([Status.DONE]) + join(*operations[Operation(body[0])](*split(body[1:])))
        except Exception:  # noqa: BLE001 - TenSEAL raises what it likes; all it means is no
            answer = bytes([Status.REFUSED])
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def main() -> None:
    """Confine the process and serve."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    os.dup2(silent, sys.stderr.fileno())
    for limit, value in (
        (resource.RLIMIT_CORE, 0),  # a core dump would hold the secret key
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES),
    ):
        with contextlib.suppress(ValueError, OSError):  # where a lower limit is in force already
            resource.setrlimit(limit, (value, value))
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
