"""One file of a feature cache: the features of some hundred images, each known by its file's SHA-256.

A shard is a safetensors file that is named after the SHA-256 of its own content. So it proves itself when it
is read, it is never changed once it is there, and two processes that write the same shard write one file.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from fedapt_crypto.private_files import write_atomically

SHARD_SUFFIX: Final = ".safetensors"
DIGEST_BYTES: Final = 32
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_REMARKS: Final = "remarks"
_TYPES: Final = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.uint8))


class DamagedShard(Exception):  # a reason to encode its images again, not an error of the run
    """The file is not what its name says, or not a shard."""


@dataclass(frozen=True)
class Shard:
    """Features of n images.

    Attributes:
        digests: SHA-256 of each image file, uint8, (n, 32); as sensitive as the images.
        features: Float32, (n, D), not normalised; zero where an image cannot be used.
        usable: Bool, (n,).
        remarks: Row to what is to be said of the image: why it cannot be used.
    """

    digests: npt.NDArray[np.uint8] = field(repr=False)
    features: npt.NDArray[np.float32] = field(repr=False)
    usable: npt.NDArray[np.bool_]
    remarks: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.usable)


def is_shard(path: Path) -> bool:
    """Return whether a file is named as a shard is."""
    return path.suffix == SHARD_SUFFIX and _NAME.fullmatch(path.stem) is not None


def write_shard(folder: Path, shard: Shard) -> Path:
    """Write a shard durably, readable by its owner only; raises OSError."""
    content = safetensors.numpy.save(
        {
            "digests": np.ascontiguousarray(shard.digests),
            "features": np.ascontiguousarray(shard.features),
            "usable": shard.usable.astype(np.uint8),
        },
        metadata={_REMARKS: json.dumps({str(row): text for row, text in shard.remarks.items()})},
    )
    path = folder / f"{hashlib.sha256(content).hexdigest()}{SHARD_SUFFIX}"
    write_atomically(path, content)
    return path


def read_shard(path: Path, feature_size: int) -> Shard:
    """Read a shard and verify it.

    Args:
        path: The file.
        feature_size: D, which all rows must have.

    Raises:
        DamagedShard: If its content is not the one it is named after, or does not fit.
        OSError: If it cannot be read.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != path.stem:
        raise DamagedShard("its content has changed")
    try:
        tensors = safetensors.numpy.load(content)
        digests, features, usable = tensors["digests"], tensors["features"], tensors["usable"]
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        remarks = {int(row): str(text) for row, text in json.loads(header["__metadata__"][_REMARKS]).items()}
    except (KeyError, ValueError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise DamagedShard("not a shard of features") from error
    count = len(usable) if usable.ndim == 1 else -1
    if digests.shape != (count, DIGEST_BYTES) or features.shape != (count, feature_size):
        raise DamagedShard("its sizes do not fit")
    if any(one.dtype != kind for one, kind in zip((digests, features, usable), _TYPES, strict=True)):
        raise DamagedShard("its types do not fit")
    return Shard(digests, features, usable.astype(np.bool_), remarks)


def shard_digests(path: Path) -> npt.NDArray[np.uint8]:
    """Return the digests (n, 32) of a shard without reading its features, and without verifying it.

    Raises:
        DamagedShard: If it is no shard.
        OSError: If it cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            digests: npt.NDArray[np.uint8] = file.get_tensor("digests")
    except safetensors.SafetensorError as error:
        raise DamagedShard("not a shard of features") from error
    if digests.ndim != 2 or digests.shape[1] != DIGEST_BYTES:
        raise DamagedShard("its sizes do not fit")
    return digests
