"""Files that are equal to another one, counted before any image is decoded; sizes tell most of them apart."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_FIRST_BYTES: Final = 1 << 16
_UNREADABLE: Final = "cannot be read"


def equal_files(paths: Iterable[Path]) -> int:
    """Return how many files are equal to one listed before them; what cannot be read is equal to none.

    A file is read only where another one has its size, and read to its end only where that one begins alike.
    """
    left = list(paths)
    counts: Counter[int | bytes | str] = Counter()
    looks: tuple[Callable[[Path], int | bytes | str], ...] = (_size, _beginning, file_digest)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for look in looks:
            seen = list(zip(left, pool.map(look, left), strict=True))
            counts = Counter(key for _, key in seen if not isinstance(key, str))
            left = [path for path, key in seen if counts[key] > 1]
    return len(left) - sum(count > 1 for count in counts.values())


def equal_in_words(count: int) -> str:
    """Return what equal files mean, for people."""
    files = "1 file is" if count == 1 else f"{count} files are"
    return f"{files} equal to another one here: each picture counts once"


def file_digest(path: Path) -> bytes | str:
    """Return the SHA-256 of a file, or why it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return error.strerror or _UNREADABLE


def _size(path: Path) -> int | str:
    try:
        return path.stat().st_size
    except OSError:
        return _UNREADABLE


def _beginning(path: Path) -> bytes | str:
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            return hashlib.sha256(size_bytes.to_bytes(8, "big") + file.read(_FIRST_BYTES)).digest()
    except OSError:
        return _UNREADABLE
