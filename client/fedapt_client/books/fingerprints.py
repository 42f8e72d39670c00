"""Fingerprints by which a ledger knows images and people again: HMACs under a key that stays in its folder.

A plain hash of an image is data about it: who holds the image can look for it. Under a local key, equal
files have equal fingerprints here, whatever they are called, and mean nothing anywhere else. An image has one
for each file that shows it and one for its decoded pixels, which another file of the same picture shares.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.kdf import digest
from fedapt_crypto.private_files import read_private, write_atomically

KEY_FILE: Final = "fingerprint.key"
KEY_BYTES: Final = 32
_CHECK: Final = b"this key belongs to this ledger"
_PATIENTS: Final = b"key of the subjects of DICOM patients"


@dataclass(frozen=True)
class KnownImage:
    """By what a training image is known.

    Attributes:
        files: SHA-256 of each file that shows it.
        pixels: SHA-256 of its decoded pixels; ``None`` where they are not known.
    """

    files: tuple[bytes, ...] = field(repr=False)
    pixels: bytes | None = field(default=None, repr=False)


class Fingerprinter:
    """Makes fingerprints under one ledger's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Fingerprinter(key hidden)"

    @property
    def check(self) -> bytes:
        """What the ledger keeps to know its key again; tells nothing about it."""
        return hmac.digest(self._key, _CHECK, "sha256")

    def patient_key(self) -> bytes:
        """Return the key under which PatientIDs become subjects: one for all federations of the ledger."""
        return self._hmac(_PATIENTS)

    def fingerprints(self, images: Iterable[KnownImage]) -> set[bytes]:
        """Return all that images are known by: HMAC-SHA256 of each file, and of each picture's pixels."""
        return {one for image in images for one in (*self.of_files(image), *self.of_pixels(image))}

    def of_files(self, image: KnownImage) -> tuple[bytes, ...]:
        """Return HMAC-SHA256 of each file of an image, by the SHA-256 of its bytes."""
        return tuple(self._hmac(one) for one in image.files)

    def of_pixels(self, image: KnownImage) -> tuple[bytes, ...]:
        """Return HMAC-SHA256 of an image's pixels, where they are known; never one that a file has."""
        return () if image.pixels is None else (self._hmac(digest("ledger pixels", image.pixels)),)

    def of_subjects(self, subjects: Iterable[str]) -> set[bytes]:
        """Return HMAC-SHA256 of each person, as the data names them; never one that an image has."""
        return {self._hmac(digest("ledger subject", subject)) for subject in subjects}

    def _hmac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")


def load_or_make(ledger: Path, *, known: bytes | None) -> Fingerprinter:
    """Return the fingerprinter of the key next to a ledger; makes the key for a new ledger alone.

    Args:
        ledger: The ledger's file.
        known: The ledger's `check` of its key, ``None`` while it has none.

    Raises:
        InvalidInput: If the key is missing, readable by others, or not the ledger's: under another one
            every image would look new and the spend would be forgotten.
    """
    path = ledger.parent / KEY_FILE
    if known is None and not os.path.lexists(path):
        try:
            write_atomically(path, secrets.token_bytes(KEY_BYTES))
        except OSError as error:
            raise system_error(f"the key {path} cannot be made", error) from None
    key = read_private(path)
    if len(key) != KEY_BYTES:
        raise InvalidInput(f"{path} is not a key file of this program")
    found = Fingerprinter(key)
    if known is not None and not hmac.compare_digest(found.check, known):
        raise InvalidInput(f"{path} is not the key of the ledger {ledger}: put the right one back")
    return found


def images_hash(fingerprints: Iterable[bytes]) -> bytes:
    """Return a hash over a set of fingerprints."""
    return hashlib.sha256(b"".join(sorted(fingerprints))).digest()
