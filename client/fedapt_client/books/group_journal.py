"""The record of a session's group key (CKKS) in the institution's folder: survives restarts and crashes.

``group-<session>.json`` holds no secret: identifiers of executions, hashes of sums, and whether the key is
burned. It is written whole and durably before the key does what it records.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_crypto.secagg.ckks.journal import MemoryJournal

Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Sum(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    hash: Hexadecimal
    pieces: Annotated[int, Field(ge=1)]


class _Content(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    discarded: bool
    encrypted: list[Hexadecimal]
    sums: dict[Hexadecimal, _Sum]


class GroupJournal(MemoryJournal):
    """The journal of one session's group key.

    Args:
        folder: The party's folder.
        session: The session's identifier.

    Raises:
        InvalidInput: If there is a journal that cannot be read: what it said is not to be guessed.
    """

    def __init__(self, folder: Path, session: bytes) -> None:
        super().__init__()
        self._path = folder / f"group-{session.hex()}.json"
        if not self._path.exists():
            return
        try:
            content = _Content.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            raise InvalidInput(
                f"{self._path} cannot be read: without it this institution must not go on with the session;"
                " restore the file or wait for a new session"
            ) from None
        self._discarded = content.discarded
        self._encrypted = {bytes.fromhex(execution) for execution in content.encrypted}
        self._sums = {
            bytes.fromhex(execution): (bytes.fromhex(entry.hash), entry.pieces)
            for execution, entry in content.sums.items()
        }

    def _save(self) -> None:
        content = {
            "discarded": self._discarded,
            "encrypted": sorted(execution.hex() for execution in self._encrypted),
            "sums": {
                execution.hex(): {"hash": sum_hash.hex(), "pieces": pieces}
                for execution, (sum_hash, pieces) in self._sums.items()
            },
        }
        try:
            write_atomically(self._path, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise system_error(f"{self._path} cannot be written, so the key was not used", error) from None
