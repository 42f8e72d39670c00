"""The rows that training reads: features of one list of images, in a file that the system maps into memory.

The file has no name, is as private as the cache next to which it lies, and is gone with the process however
that ends. Its pages are read when they are needed and dropped when memory is short, so it may be larger than
memory. It is a copy: nobody else can change or clear it during training.
"""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedapt_crypto.errors import system_error

_CHUNK_ROWS: Final = 4096


class FeatureRows:
    """N rows of D float32 values, to be written in any order.

    Args:
        count: N, at least 1.
        feature_size: D.
        folder: On whose disk; ``None`` keeps them in memory.

    Raises:
        InvalidInput: If the disk has no room for them.
    """

    def __init__(self, count: int, feature_size: int, folder: Path | None) -> None:
        self._values: npt.NDArray[np.float32]
        if folder is None:
            self._values = np.zeros((count, feature_size), np.float32)
            return
        size_bytes = count * feature_size * np.dtype(np.float32).itemsize
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                # Reserved at once: a disk that fills up under a mapped file ends the process.
                os.posix_fallocate(file.fileno(), 0, size_bytes)
                mapped = mmap.mmap(file.fileno(), size_bytes)
        except OSError as error:
            sentence = f"cannot keep {size_bytes >> 20} MiB of features in {folder}"
            raise system_error(sentence, error, "make room or choose another place for the cache") from None
        self._values = np.frombuffer(mapped, np.float32).reshape(count, feature_size)

    def __setitem__(self, rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> None:
        self._values[rows] = values

    def only(self, kept: npt.NDArray[np.bool_]) -> Tensor:
        """Drop all rows but those marked (N,), and return them as a tensor over the same memory."""
        numbers = np.flatnonzero(kept)
        if len(numbers) < len(kept):
            for start in range(0, len(numbers), _CHUNK_ROWS):
                chosen = numbers[start : start + _CHUNK_ROWS]
                # Rows only move forward, onto places whose own row has moved already or is dropped.
                self._values[start : start + len(chosen)] = self._values[chosen]
        return torch.from_numpy(self._values[: len(numbers)])
