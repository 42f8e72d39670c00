"""By what a picture is known whatever its file is like: its decoded pixels, and roughly what it looks like.

Both are data about the picture and stay at home, as private as the features beside which they are kept.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

FEATURELESS: Final = 0
"""The look of a picture in which there is next to nothing to see: it is like no other."""
MOST_BITS_APART: Final = 3
"""So many of 63 bits may differ between two pictures that look alike: all such pairs are found fast."""
_TAG: Final = b"fedapt decoded pixels/1"
_STRIP_BYTES: Final = 1 << 22
_SIDE: Final = 32
_LOW: Final = 8
_LEAST_CONTRAST: Final = 1.0
_BANDS: Final = MOST_BITS_APART + 1
_FEW: Final = 64
"""So many looks are compared each with each; more are cut into bands again."""


@dataclass(frozen=True)
class Marks:
    """By what a picture is known.

    Attributes:
        pixels: SHA-256 of its size and its RGB values: equal pictures have equal ones, whatever format,
            compression or metadata their files have.
        look: A perceptual hash of 64 bits; pictures that look alike differ in few of them.
    """

    pixels: bytes = field(repr=False)
    look: int = field(repr=False)


def marks_of(image: Image.Image) -> Marks:
    """Return the marks of a picture as `open_rgb` gives it: upright, in RGB, on white, in its own size.

    That is what every model's preprocessing begins with, so the marks are the same under every model; after
    it, pictures that differ would be one as soon as a model sees no difference at its resolution.
    """
    return Marks(_pixels(image), _look(image))


def _pixels(image: Image.Image) -> bytes:
    width, height = image.size
    found = hashlib.sha256(_TAG + width.to_bytes(4, "big") + height.to_bytes(4, "big"))
    rows = max(1, _STRIP_BYTES // (3 * max(1, width)))
    for top in range(0, height, rows):  # in strips: a copy of a large picture at once may not fit
        found.update(image.crop((0, top, width, min(height, top + rows))).tobytes())
    return found.digest()


def _look(image: Image.Image) -> int:
    """Return which of the 63 lowest frequencies are above their median: pHash (Zauner 2010, 3.2.1)."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("L")
    grey = np.asarray(small, np.float64)
    if grey.std() < _LEAST_CONTRAST:
        return FEATURELESS
    low = (_COSINES @ grey @ _COSINES.T).reshape(-1)[1:]  # without the mean
    bits = np.packbits(np.concatenate([[False], low > np.median(low)]))
    return int.from_bytes(bits.tobytes(), "big")


def _cosines() -> npt.NDArray[np.float64]:
    """Return the first rows of the discrete cosine transform, (low, side)."""
    frequency, place = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    rows: npt.NDArray[np.float64] = np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE))
    return rows


_COSINES: Final = _cosines()


def alike(looks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which pictures (N,) look like at least one other of them, by their looks (N,).

    All pairs that differ in `MOST_BITS_APART` bits or fewer are found without comparing all: of four bands of
    bits such a pair has at least one in common. Where a band tells little apart, the bits that are left are
    cut into bands again.
    """
    values, which, counts = np.unique(looks, return_inverse=True, return_counts=True)
    some = counts > 1
    _search(values, np.flatnonzero(values != FEATURELESS), np.arange(64), some)
    found: npt.NDArray[np.bool_] = (some & (values != FEATURELESS))[which]
    return found


def _search(
    values: npt.NDArray[np.uint64],
    members: npt.NDArray[np.int64],
    bits: npt.NDArray[np.int64],
    some: npt.NDArray[np.bool_],
) -> None:
    """Mark the looks that are near another one.

    Args:
        values: All looks, each once.
        members: Which of them are to be compared with each other.
        bits: Which bits these do not all have in common by construction.
        some: Whether each look is near another; written to.
    """
    for band in np.array_split(bits, _BANDS):
        if some[members].all():
            return
        mask = np.bitwise_or.reduce(np.uint64(1) << band.astype(np.uint64))
        keys = values[members] & mask
        order = np.argsort(keys, kind="stable")
        keys, sorted_ = keys[order], members[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        ends = np.append(starts[1:], len(keys))
        rest = np.setdiff1d(bits, band)
        few = (ends - starts <= _FEW) | (len(rest) < 2 * _BANDS)
        _compare(values, sorted_, starts[few], ends[few], some)
        for start, end in zip(starts[~few].tolist(), ends[~few].tolist(), strict=True):
            _search(values, sorted_[start:end], rest, some)


def _compare(
    values: npt.NDArray[np.uint64],
    members: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    some: npt.NDArray[np.bool_],
) -> None:
    """Compare each look with all others of its run; arguments as for `_search`, a run from start to end."""
    lengths = ends - starts
    first = np.repeat(starts, lengths) + _counted(lengths)
    last = np.repeat(ends, lengths)
    apart = 1
    while len(first):
        inside = first + apart < last
        first, last = first[inside], last[inside]
        one, other = members[first], members[first + apart]
        near = np.bitwise_count(values[one] ^ values[other]) <= MOST_BITS_APART
        some[one[near]] = True
        some[other[near]] = True
        apart += 1


def _counted(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return 0, 1, ... for each length in turn."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) - np.repeat(before, lengths)
