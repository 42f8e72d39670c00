"""Real handwritten digits as image files: the embedded data of the simulation.

The test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI Machine Learning
Repository, CC BY 4.0): 1,797 scans of 8 x 8 pixels by 13 writers, in the order of scikit-learn's copy. Each
institution sees its share in its own style.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedapt_crypto.private_files import PRIVATE_FILE_MODE, make_private_folder
from fedapt_secure.learning.data.digits.styles import Mask, draw
from fedapt_secure.learning.data.digits.synthetic import Hand

SIDE: Final = 32
"""Side of a picture in pixels."""
CLASS_NAMES: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FULL_COVERAGE: Final = 16.0  # the scans hold counts from 0 to 16


@cache
def _scans() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    # Shipped, because scikit-learn takes a second to load for these 45 kB.
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as archive:
        return archive["scans"].astype(np.float64), archive["labels"].astype(np.int64)


def scan_count() -> int:
    """Return how many scans there are."""
    return len(_scans()[1])


def scan_labels() -> NDArray[np.int64]:
    """Return each scan's class, (scans,)."""
    return _scans()[1]


def write_digits(
    folder: Path,
    domain: str,
    indices: Sequence[int] | NDArray[np.int64],
    upside_down: bool,
    rng: np.random.Generator,
    hand: Hand | None = None,
) -> None:
    """Write scans as PNG files ``CLASS/digit-0001.png`` in the style of a domain.

    Args:
        folder: Where to; made where missing.
        domain: A style, see `fedapt_secure.learning.data.digits.styles`.
        indices: Which scans.
        upside_down: Whether this institution delivers its pages the wrong way round.
        rng: Source of the style's variation.
        hand: In whose hand, before whose camera; ``None`` leaves the scans as they are.
    """
    images, targets = _scans()
    for index in indices:
        mask = _enlarged(images[index])
        picture = draw(rng, mask if hand is None else hand.write(mask), domain)
        if hand is not None:
            picture = hand.photograph(picture)
        if upside_down:
            picture = picture[::-1, ::-1]
        class_folder = make_private_folder(folder / CLASS_NAMES[targets[index]])
        pixels = np.rint(np.ascontiguousarray(picture) * 255).astype(np.uint8)
        path = class_folder / f"digit-{index + 1:04d}.png"
        path.touch(mode=PRIVATE_FILE_MODE)
        Image.fromarray(pixels).save(path)


def _enlarged(scan: NDArray[np.float64]) -> Mask:
    small = Image.fromarray((scan / _FULL_COVERAGE * 255).astype(np.uint8))
    large = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / np.float32(255)
