"""Intensities as a grey picture of 8 bits: by a window, by a table, or by percentiles."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedapt_secure.learning.data.reading.unusable import UnusableImage

Values = npt.NDArray[Any]
Grey = npt.NDArray[np.uint8]

PERCENTILES: Final = (1.0, 99.0)
WHITE: Final = 255
_NOTHING_TO_SEE: Final = "nothing to see: all its pixels are equal"


def by_window(values: Values, window: tuple[float, float]) -> Grey:
    """Return values in 8 bits: centre - width / 2 and below black, centre + width / 2 and above white."""
    center, width = window
    return _between(values, center - width / 2, center + width / 2)


def by_percentiles(values: Values, counted: npt.NDArray[np.bool_] | None = None) -> Grey:
    """Return values in 8 bits: black up to their 1st percentile, white from the 99th.

    Args:
        values: The intensities; what is not finite is black.
        counted: Which of them the percentiles are taken over; by default all that are finite.
    """
    finite = np.isfinite(values)
    chosen = values[finite if counted is None else counted & finite]
    if not chosen.size:
        raise UnusableImage("none of its values is a number")
    low, high = np.percentile(chosen, PERCENTILES)
    if low == high:  # nearly all are equal: what is not shows between the extremes
        low, high = chosen.min(), chosen.max()
    return _between(values, float(low), float(high))


def scaled(values: Values, white: float) -> Grey:
    """Return values from 0 to ``white`` in 8 bits."""
    return np.rint(np.clip(values / (white / WHITE), 0, WHITE)).astype(np.uint8)


def check_visible(picture: Grey) -> None:
    """Raise `UnusableImage` where a picture has one shade only."""
    if not (picture != picture.reshape(-1)[0]).any():
        raise UnusableImage(_NOTHING_TO_SEE)


def _between(values: Values, black: float, white: float) -> Grey:
    if not (np.isfinite(black) and np.isfinite(white) and white > black):
        raise UnusableImage(_NOTHING_TO_SEE)
    shares = (np.nan_to_num(values.astype(np.float64), nan=black) - black) / (white - black)
    return np.rint(np.clip(shares, 0, 1) * WHITE).astype(np.uint8)
