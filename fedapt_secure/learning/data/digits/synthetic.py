"""Digits for more institutions than there are scans for: drawn anew for each, every one in a hand of its own.

The scans go back into the box after each institution, so one scan lies at many of them, on both sides of
the split into training and test images. What such a federation costs is real. What it learns is not, and no
ε protects a scan that a hundred others hold as well.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedapt_secure.learning.data.digits.styles import Mask, Picture
from fedapt_secure.learning.data.partition import Indices, take_classes

SCANS_EACH: Final = 60
"""Few, so that a run among a thousand is about protocols and not about images; 45 of them are to train on."""
_MAX_SLANT: Final = 0.35
_WEIGHTS: Final = (0.6, 1.7)
_CAST: Final = 0.2


@dataclass(frozen=True)
class Hand:
    """How the pages of one institution differ from those of others in the same style.

    Attributes:
        slant: By how much of its height a shape leans to the right.
        weight: Exponent of the pen's coverage: below 1 bold, above 1 fine.
        gain, shift: What the institution's camera makes of each colour channel, (3,).
    """

    slant: float
    weight: float
    gain: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def fresh(cls, rng: np.random.Generator) -> "Hand":
        """Draw a new one."""
        gain = rng.uniform(1.0 - _CAST, 1.0, 3)
        return cls(
            slant=float(rng.uniform(-_MAX_SLANT, _MAX_SLANT)),
            weight=float(rng.uniform(*_WEIGHTS)),
            gain=gain,
            shift=rng.uniform(0.0, 1.0 - gain),
        )

    def write(self, mask: Mask) -> Mask:
        """Return a shape as this hand writes it, (H, W) in [0, 1]."""
        height, width = mask.shape
        matrix = (1.0, self.slant, -self.slant * (height - 1) / 2, 0.0, 1.0, 0.0)
        leaning = Image.fromarray(mask).transform(
            (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        return np.clip(np.asarray(leaning, np.float32), 0.0, 1.0) ** np.float32(self.weight)

    def photograph(self, picture: Picture) -> Picture:
        """Return a picture as this institution's camera sees it, (H, W, 3) in [0, 1]."""
        return (picture * self.gain + self.shift).astype(np.float32)


def draw_scans(labels: Indices, alpha: float | None, rng: np.random.Generator) -> Indices:
    """Draw one institution's scans, none of them twice, out of all there are.

    Args:
        labels: Class of each scan, (scans,).
        alpha: With a number the institution draws its own class shares from Dirichlet(α p), p being the
            classes' shares in all; ``None`` draws from all scans alike.
        rng: Decides all of it.

    Returns:
        Indices of `SCANS_EACH` scans.
    """
    if alpha is None:
        return rng.choice(len(labels), SCANS_EACH, replace=False)
    available = np.bincount(labels)
    wanted = take_classes(SCANS_EACH, alpha * available / available.sum(), available, rng)
    parts = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in enumerate(wanted)
    ]
    return np.concatenate(parts)
