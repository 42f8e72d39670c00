"""Augmented views of an image, as FedAPT's unsupervised setting sees them (AAAI 2024, reference code).

A view is drawn once from the image file and the view's number and its features are kept, so the image tower
works `views` times an image in a session and not once a step. Steps take the views in turn.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as change

from fedapt_secure.config.unsupervised import Augmentation
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.data.reading.decoding import Transform

VERSION: Final = 1
"""To be raised when a view would come out otherwise: kept features are found by it."""
FLIP_SHARE: Final = 0.5
JITTER_SHARE: Final = 0.8
JITTER: Final = 0.8
"""Brightness, contrast and saturation are multiplied by 1 - 0.8 to 1 + 0.8."""
HUE: Final = 0.2
GREYSCALE_SHARE: Final = 0.2
BLUR_SHARE: Final = 0.2
BLUR_PIXELS: Final = 3
BLUR_DEVIATION: Final = (1.0, 2.0)


def view_name(augmentations: Sequence[Augmentation], number: int) -> str:
    """Return the name under which the features of a view are kept.

    Args:
        augmentations: What is done to the image.
        number: Which view, from 0.
    """
    return f"augmented-{VERSION}:{'+'.join(augmentations)}:{number}"


def augmentation(augmentations: Sequence[Augmentation], backbone: Backbone) -> Transform:
    """Return what makes a view of an RGB image: scaled to the image tower's size, then changed by chance.

    Args:
        augmentations: Which changes, in their order.
        backbone: Whose image tower.
    """
    height, width = backbone.preprocess(Image.new("RGB", (8, 8))).shape[-2:]
    return partial(_augmented, tuple(augmentations), (int(height), int(width)))


def _augmented(
    names: tuple[Augmentation, ...], size: tuple[int, int], image: Image.Image, rng: np.random.Generator
) -> Image.Image:
    view: Image.Image = change.resize(image, list(size), InterpolationMode.BILINEAR)
    if "flip" in names and rng.random() < FLIP_SHARE:
        view = change.hflip(view)
    if "jitter" in names and rng.random() < JITTER_SHARE:
        view = _jittered(view, rng)
    if "greyscale" in names and rng.random() < GREYSCALE_SHARE:
        view = change.to_grayscale(view, 3)
    if "blur" in names and rng.random() < BLUR_SHARE:
        view = change.gaussian_blur(view, 2 * [BLUR_PIXELS], 2 * [rng.uniform(*BLUR_DEVIATION)])
    return view


def _jittered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    changes = (
        partial(change.adjust_brightness, brightness_factor=rng.uniform(1 - JITTER, 1 + JITTER)),
        partial(change.adjust_contrast, contrast_factor=rng.uniform(1 - JITTER, 1 + JITTER)),
        partial(change.adjust_saturation, saturation_factor=rng.uniform(1 - JITTER, 1 + JITTER)),
        partial(change.adjust_hue, hue_factor=rng.uniform(-HUE, HUE)),
    )
    for number in rng.permutation(len(changes)):
        image = changes[number](image)
    return image


class Views:
    """The augmented views of an institution's training images, one after the other and round again.

    Args:
        features: Features of each view, at least one, (N, D) each, in the order of the training records.
    """

    def __init__(self, features: Sequence[Tensor]) -> None:
        self._features = tuple(features)
        self._next = 0

    def __len__(self) -> int:
        return len(self._features)

    def take(self, batch: Tensor) -> Tensor:
        """Return features (B, D) of some records, (B,), in the next view."""
        view = self._features[self._next]
        self._next = (self._next + 1) % len(self._features)
        return view[batch]


def aligned(digests: Sequence[bytes], plain: Tensor, found: Sequence[bytes], features: Tensor) -> Tensor:
    """Return a view's features in the order of the plain ones; where the view has none, the plain ones.

    Args:
        digests: By what each record's image is kept, N.
        plain: Its features, (N, D).
        found: By what each image is kept that the view has features of.
        features: These features.
    """
    if tuple(digests) == tuple(found):
        return features
    rows = {digest: row for row, digest in enumerate(found)}
    return torch.stack(
        [features[rows[one]] if one in rows else plain[number] for number, one in enumerate(digests)]
    )
