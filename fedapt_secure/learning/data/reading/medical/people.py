"""Subjects out of PatientIDs: a keyed hash, so that what goes on from here names nobody."""

import hmac
import secrets
import struct
from typing import Final

_TAG: Final = b"fedapt subject of a DICOM patient/1"


class PatientKey:
    """Makes subjects under a key that stays in its institution's folder.

    Equal PatientIDs are one subject under one key, and mean nothing under another one. Whoever has the key
    can try PatientIDs: it is as sensitive as the ledger beside which it lies.

    Args:
        key: 32 bytes of the operating system's randomness.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def to_count(cls) -> "PatientKey":
        """Return one under a key that is forgotten: it tells persons apart, and nobody finds them again."""
        return cls(secrets.token_bytes(32))

    def __repr__(self) -> str:
        return "PatientKey(key hidden)"

    def subject(self, patient_id: str) -> str:
        """Return the subject of a PatientID, which is not empty; spaces at its ends say nothing."""
        content = patient_id.strip(" \0").encode()
        return hmac.digest(self._key, _TAG + struct.pack(">I", len(content)) + content, "sha256").hex()
