"""Draw one handwritten shape in the style of a domain: ink, chalk, print, pencil or scan.

A shape comes in as a coverage mask; a style decides colours, texture and noise. The same five styles
serve the digit data sets (one style an institution) and the pre-training of the shipped model.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.float32]
"""Coverage of the pen, shape (H, W), values in [0, 1]."""
Picture = NDArray[np.float32]
"""An RGB picture, shape (H, W, 3), values in [0, 1]."""

Style = Callable[[np.random.Generator, Mask], NDArray[np.floating]]

_MIN_COLOUR_CONTRAST: Final = 0.9  # sum over RGB; below it some prints cannot be read by people either


def _blend(mask: Mask, paper: NDArray[np.floating], pen: NDArray[np.floating]) -> NDArray[np.floating]:
    coverage = mask[..., None]
    return paper * (1 - coverage) + pen * coverage


def _ink(rng: np.random.Generator, mask: Mask) -> NDArray[np.floating]:
    return _blend(mask, paper=rng.uniform(0.8, 1.0, 3), pen=rng.uniform(0.0, 0.3, 3))


def _chalk(rng: np.random.Generator, mask: Mask) -> NDArray[np.floating]:
    board = _blend(mask, paper=rng.uniform(0.0, 0.25, 3), pen=rng.uniform(0.75, 1.0, 3))
    dust = rng.normal(0.0, 0.05, (*mask.shape, 1))
    return board + dust


def _print(rng: np.random.Generator, mask: Mask) -> NDArray[np.floating]:
    paper, pen = rng.uniform(0.0, 1.0, 3), rng.uniform(0.0, 1.0, 3)
    while np.abs(paper - pen).sum() < _MIN_COLOUR_CONTRAST:
        pen = rng.uniform(0.0, 1.0, 3)
    coarse = Image.fromarray(rng.normal(0.0, 1.0, (4, 4)).astype(np.float32))
    height, width = mask.shape
    texture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None]
    return _blend(mask, paper=paper + texture * rng.uniform(0.0, 0.15), pen=pen)


def _pencil(rng: np.random.Generator, mask: Mask) -> NDArray[np.floating]:
    across = np.abs(np.diff(mask, axis=1, prepend=0))
    down = np.abs(np.diff(mask, axis=0, prepend=0))
    outline = np.clip((across + down) * rng.uniform(1.0, 2.0), 0.0, 1.0)
    grey = 1.0 - outline * rng.uniform(0.6, 1.0)
    return np.repeat(grey[..., None], 3, axis=2)


def _scan(rng: np.random.Generator, mask: Mask) -> NDArray[np.floating]:
    grey = np.repeat((0.85 - 0.55 * mask)[..., None], 3, axis=2)
    noisy = grey + rng.normal(0.0, rng.uniform(0.1, 0.25), (*mask.shape, 1))
    specks = rng.random(mask.shape)
    noisy[specks < 0.03] = 0.0
    noisy[specks > 0.97] = 1.0
    return noisy


STYLES: Final[Mapping[str, Style]] = MappingProxyType(
    {"ink": _ink, "chalk": _chalk, "print": _print, "pencil": _pencil, "scan": _scan}
)
"""Domain name to style, in the order in which domains are dealt to institutions."""

CAPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ink": "ink on paper",
        "chalk": "chalk on a blackboard",
        "print": "colour print",
        "pencil": "pencil outline",
        "scan": "noisy scan",
    }
)
"""What a caption calls each style."""


def draw(rng: np.random.Generator, mask: Mask, domain: str) -> Picture:
    """Draw ``mask`` in the style of ``domain``.

    Args:
        rng: Source of the style's variation (colours, texture, noise); not a secret.
        mask: Coverage of the pen, shape (H, W), values in [0, 1].
        domain: A name in `STYLES`.

    Returns:
        An RGB picture, shape (H, W, 3), float32 in [0, 1].

    Raises:
        KeyError: If ``domain`` is not in `STYLES`.
    """
    return np.clip(STYLES[domain](rng, mask), 0.0, 1.0).astype(np.float32)
