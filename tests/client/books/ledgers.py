"""What the ledger's tests share: sessions to account for, and a policy that allows everything."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedapt_client.books.fingerprints import KnownImage
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import PlannedSession, Terms
from fedapt_crypto.secagg.scheme import RoundContext

MINE, OTHER = bytes(16), b"\x01" * 16


def terms(session: bytes = MINE, **changes: object) -> Terms:
    fields = {
        "session": session,
        "configuration": b"\x07" * 32,
        "mechanism": "gaussian-grid",
        "noise": "keystream",
        "unit": "image",
        "noise_multiplier": 1.234,
        "sample_rate": 0.1,
        "max_steps": 60,
        "delta": 1e-5,
        "epsilon_budget": 8.0,
        "declared_records": 270,
        "composition": "sum",
        "rdp_order": None,
    }
    return Terms(**(fields | changes))


def images(*numbers: int, files: str = "", pixels: bool = True) -> list[KnownImage]:
    """Made-up images; with other ``files`` the same pictures are saved in another way."""
    return [
        KnownImage((_sha(f"file {files}{number}"),), _sha(f"pixels {number}") if pixels else None)
        for number in numbers
    ]


def _sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def allow(earlier: Sequence[PlannedSession], new: Terms) -> None:
    """A policy without limits."""


def open_ledger(path: Path, sessions: Iterable[bytes] = ()) -> Ledger:
    """Open a ledger; ``sessions`` are accepted on the same images."""
    ledger = Ledger(path, allow)
    for session in sessions:
        ledger.record_plan(terms(session), images(1, 2, 3))
    return ledger


def context(round_number: int, attempt: int = 1, session: bytes = MINE) -> RoundContext:
    return RoundContext(
        session=session,
        round=round_number,
        attempt=attempt,
        purpose="update",
        configuration_hash=bytes(32),
        roster_hash=bytes(32),
        model_hash=bytes(32),
        participants=5,
        threshold=4,
        vector_length=3,
        clip=4.0,
    )
