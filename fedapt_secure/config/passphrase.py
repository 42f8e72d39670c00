"""Where the passphrase of the key files comes from when nobody is there to type it."""

import os
from functools import lru_cache
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.private_files import read_private
from fedapt_crypto.protected_keys import Passphrase

VARIABLE = "FEDAPT_PASSPHRASE"
FILE_VARIABLE = "FEDAPT_PASSPHRASE_FILE"
MAX_FILE_BYTES = 4096


def from_environment() -> Passphrase | None:
    """Return the passphrase in FEDAPT_PASSPHRASE, or in the file that FEDAPT_PASSPHRASE_FILE names."""
    text = os.environ.get(VARIABLE)
    if text:
        return _kept(text)
    file = os.environ.get(FILE_VARIABLE)
    return from_file(Path(file)) if file else None


def from_file(path: Path) -> Passphrase:
    """Return the passphrase in the first line of a file that only its owner may read.

    Raises:
        InvalidInput: If there is none, or others could have read it.
    """
    data = read_private(path)
    try:
        text = data[:MAX_FILE_BYTES].decode().splitlines()[0] if data.strip() else ""
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise InvalidInput(f"{path}: the first line must be the passphrase")
    return _kept(text)


@lru_cache(maxsize=2)
def _kept(text: str) -> Passphrase:
    """One object for one text: a process derives its keys once, however many folders it opens."""
    return Passphrase(text)
