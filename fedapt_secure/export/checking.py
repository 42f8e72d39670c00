"""Whether an exported form answers as we do: on made images, and on those that somebody names.

Everything is compared: logits, labels, domains, weights of the keys. Two kinds of image are judged apart,
because there our own last bit decides:

- **Between keys**: no key has all the weight, so the image has prompts of its own. They follow from weights
  that a softmax with τ = 0.01 makes of small differences, so rounding shows in them a hundredfold. The
  weights may differ by what rounding explains, and the logits have to be those of the weights that the
  exported form says.
- **At a tie**: two keys' scores differ by less than `TIE` of their possible size. Which one is chosen is not
  determined; again the logits have to be those of what the exported form says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedapt_crypto.errors import RunFailed
from fedapt_secure.export.graphs import DOMAIN, LOGITS, PROBABILITIES, WEIGHTS
from fedapt_secure.export.tracing import IMAGES_AT_ONCE
from fedapt_secure.learning.methods.base import Classifier
from fedapt_secure.learning.methods.fedapt import ONE_HOT, FedAptModel

TOLERANCE: Final = 1e-4
"""Largest difference of a logit, relative to the largest logit."""
TIE: Final = 1e-4
"""Difference of two keys' scores, relative to the lengths of what they are products of."""
_ROUNDING: Final = 1e-5  # of a score, relative to the same lengths: what two programs may disagree in
_MADE: Final = 12
_SIDES: Final = (48, 360)
_SMALLEST_STEP: Final = 1 / 256  # a blend by less gives the same bytes

Answer = Callable[[Sequence[Image.Image], Tensor], Mapping[str, Tensor]]
"""What an exported form says of images and their pixels (B, 3, H, W), by the outputs' names."""


@dataclass(frozen=True)
class Checked:
    """What was compared.

    Attributes:
        images: How many images.
        given: How many of them somebody named; the others were made.
        largest: The largest difference of a logit, relative to the largest logit.
        between: How many were between keys; ``None`` where there are none to be between.
        ties: How many of all were at a tie; ``None`` as well.
    """

    images: int
    given: int
    largest: float
    between: int | None
    ties: int | None

    def __add__(self, other: "Checked") -> "Checked":
        """Return both together."""
        routed = self.between is not None
        return Checked(
            self.images + other.images,
            self.given + other.given,
            max(self.largest, other.largest),
            (self.between or 0) + (other.between or 0) if routed else None,
            (self.ties or 0) + (other.ties or 0) if routed else None,
        )


def made_images(classifier: Classifier) -> list[Image.Image]:
    """Return images to compare on that nobody has to name: smooth and sharp ones, of many sizes.

    Where a model has several keys one is sought that lies between two of them, by blending two images.
    """
    rng = np.random.default_rng(0)
    images = [_made(rng, number) for number in range(_MADE)]
    if isinstance(classifier, FedAptModel):
        images += _between(classifier, images)
    return images


def _made(rng: np.random.Generator, number: int) -> Image.Image:
    """Return colours or grey, smooth or sharp, and every other pair strokes on a light or a dark ground."""
    width, height = (int(side) for side in rng.integers(*_SIDES, 2))
    cells = int(rng.integers(2, 12))
    coarse = rng.integers(0, 256, (cells, cells, 3), np.uint8)
    if number % 4 >= 2:
        strokes = rng.random((cells, cells, 1)) < 0.3
        coarse = np.where(strokes == bool(number % 8 >= 4), np.uint8(15), np.uint8(240)).repeat(3, axis=2)
    how = Image.Resampling.BICUBIC if number % 2 else Image.Resampling.NEAREST
    return Image.fromarray(coarse).resize((width, height), how)


def _between(model: FedAptModel, images: Sequence[Image.Image]) -> list[Image.Image]:
    """Return a blend of two images that lies between two keys, or nothing where none is found or needed."""
    same = [image.resize(images[0].size) for image in images]
    domains = model.routing(_features(model, same)).tolist()
    if bool(_mixed(model.weights(_features(model, images))).any()):
        return []
    for other, domain in enumerate(domains):
        if domain != domains[0]:
            blend = _halved(model, same[0], same[other])
            if blend is not None:
                return [blend]
    return []


def _halved(model: FedAptModel, one: Image.Image, other: Image.Image) -> Image.Image | None:
    """Return a blend of two images that lies between the key of the one and some other key, by bisection."""
    domain = model.routing(_features(model, [one])).item()
    near, far = 0.0, 1.0
    while far - near > _SMALLEST_STEP:
        middle = (near + far) / 2
        blend = Image.blend(one, other, middle)
        features = _features(model, [blend])
        if bool(_mixed(model.weights(features))) and not bool(_ties(model, features)):
            return blend
        if model.routing(features).item() == domain:
            near = middle
        else:
            far = middle
    return None


def _features(model: Classifier, images: Sequence[Image.Image]) -> Tensor:
    return model.encode_images(torch.stack([model.backbone.preprocess(image) for image in images]))


def _mixed(weights: Tensor) -> Tensor:
    return weights.max(dim=1).values < ONE_HOT


def _lengths(model: FedAptModel, features: Tensor) -> Tensor:
    """Return the largest score that each image could have, (B,)."""
    network: Tensor = model.adaptive_network.norm(dim=1).max()
    lengths: Tensor = features.norm(dim=1) * network
    return lengths


def _ties(model: FedAptModel, features: Tensor) -> Tensor:
    if len(model.adaptive_network) == 1:
        return torch.zeros(len(features), dtype=torch.bool)
    best = (features @ model.adaptive_network.T).topk(2, dim=1).values
    return best[:, 0] - best[:, 1] <= TIE * _lengths(model, features)


@torch.no_grad()
def compare(classifier: Classifier, images: Sequence[Image.Image], answer: Answer, *, given: int) -> Checked:
    """Compare an exported form's answers with our own.

    Args:
        classifier: Ours, on the CPU in float32.
        images: RGB.
        answer: The exported form.
        given: How many of them somebody named.

    Raises:
        RunFailed: If they differ.
    """
    pixels = torch.stack([classifier.backbone.preprocess(image) for image in images])
    features = torch.cat([classifier.encode_images(some) for some in torch.split(pixels, IMAGES_AT_ONCE)])
    theirs = answer(images, pixels)
    ours, between, ties = classifier.predict(features), None, None
    if isinstance(classifier, FedAptModel):
        mixed, tied = _mixed(classifier.weights(features)), _ties(classifier, features)
        _compare_routing(classifier, features, theirs, tied)
        apart = mixed | tied | _mixed(theirs[WEIGHTS])
        if apart.any():
            ours = ours.clone()
            ours[apart] = _one_by_one(classifier, features[apart], theirs[WEIGHTS][apart])
        between, ties = int(mixed.sum()), int(tied.sum())
    largest = _compare_logits(ours, theirs)
    return Checked(len(images), given, largest, between, ties)


def _one_by_one(model: FedAptModel, features: Tensor, weights: Tensor) -> Tensor:
    rows = zip(torch.split(features, 1), torch.split(weights, 1), strict=True)
    return torch.cat([model.own_logits(feature, weight) for feature, weight in rows])


def _compare_routing(
    model: FedAptModel, features: Tensor, theirs: Mapping[str, Tensor], tied: Tensor
) -> None:
    ours = model.weights(features)
    if not torch.equal(theirs[DOMAIN][~tied], ours.argmax(dim=1)[~tied]):
        raise RunFailed("the exported model routes images to other domains than ours: please report this")
    spread = (features @ model.adaptive_network.T).std(dim=1) if ours.shape[1] > 1 else torch.ones(len(ours))
    allowed = TOLERANCE + _ROUNDING * _lengths(model, features) / spread / model.temperature
    difference = (theirs[WEIGHTS] - ours).abs().amax(dim=1)
    if not bool((difference <= allowed)[~tied].all()):
        raise RunFailed("the exported model weighs the keys differently than ours: please report this")


def _compare_logits(ours: Tensor, theirs: Mapping[str, Tensor]) -> float:
    found = theirs[LOGITS]
    if found.shape != ours.shape:
        raise RunFailed("the exported model has another number of classes than ours: please report this")
    scale = float(ours.abs().max()) or 1.0
    largest = float((found - ours).abs().max()) / scale
    probabilities = theirs.get(PROBABILITIES, found.softmax(dim=1))
    unequal = (probabilities - found.softmax(dim=1)).abs().max() > TOLERANCE
    # Two classes that differ by less than the tolerance may change places.
    said = ours.gather(1, found.argmax(dim=1, keepdim=True)).squeeze(1)
    other_label = ours.max(dim=1).values - said > 2 * TOLERANCE * scale
    if not largest <= TOLERANCE or bool(unequal) or bool(other_label.any()):
        raise RunFailed(
            f"the exported model answers differently than ours: logits by {largest:.1e} of the largest one,"
            f" {TOLERANCE:g} is allowed; nothing was kept, please report this"
        )
    return largest
