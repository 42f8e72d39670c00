"""A finished model, ready to answer: images in, labels with probabilities out."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.model_identity import Activation
from fedapt_secure.config.ranges import IMAGES_AT_ONCE, PRIOR_WEIGHT
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.inference.decoding import Frame, ImageInput, decoded_batches
from fedapt_secure.learning.bundle import Bundle, read_bundle
from fedapt_secure.learning.clip.backbone import Backbone, choose_precision, load_backbone
from fedapt_secure.learning.clip.device import images_at_once, resolve_device
from fedapt_secure.learning.clip.feeding import Feed
from fedapt_secure.protocol.methods import method_facts

TOP: Final = 5
_NOT_FINITE: Final = "its features are not finite"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image.

    Attributes:
        name: The image's path; ``""`` where it came without one.
        label: The most probable class; ``None`` where the image could not be used.
        probability: Its probability, in (0, 1], as the softmax of the logits gives it; not calibrated.
        top: The most probable classes with their probabilities, best first.
        domain: Whose knowledge was used: the domain of the chosen key, or what `Bundle.key_names` calls it
            where keys are not one a domain; ``None`` where the method knows no domains.
        skipped: Why the image could not be used; ``None`` where it could.
    """

    name: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    domain: str | None
    skipped: str | None = None


@dataclass(frozen=True)
class Answers:
    """One batch: B images, of which those that could be used, U, have features and logits.

    Attributes:
        names: Paths, B.
        skipped: Why an image could not be used, B; ``None`` where it could.
        usable: Positions of the images that could be used, (U,).
        features: (U, D), float32, not normalised, on the CPU.
        logits: (U, M), on the CPU.
        chosen: Key indices, (U,), on the CPU; ``None`` where the method knows no domains.
    """

    names: tuple[str, ...]
    skipped: tuple[str | None, ...]
    usable: Tensor
    features: Tensor
    logits: Tensor
    chosen: Tensor | None


class Model:
    """A finished model on one device.

    Args:
        bundle: What was tuned.
        backbone: The CLIP that it was tuned on.
        batch_size: Images that go through the image tower at once; bounds the memory. By default 64 on a
            CPU, and on a GPU what its memory allows, up to 256.
        reading: How DICOM and NIfTI files are read.

    Raises:
        InvalidInput: If the CLIP has other weights, or the batch size is out of range.
    """

    def __init__(
        self,
        bundle: Bundle,
        backbone: Backbone,
        batch_size: int | None = None,
        reading: ReadingOptions = AS_THEY_ARE,
    ) -> None:
        if batch_size is None:
            batch_size = images_at_once(backbone.device)
        try:
            IMAGES_AT_ONCE.check(batch_size)
        except ValueError as error:
            raise InvalidInput(f"batch size: {error}") from None
        self.bundle = bundle
        self.classifier = bundle.model_on(backbone)
        self.batch_size = batch_size
        self.reading = reading
        self._backbone = backbone

    @property
    def class_names(self) -> tuple[str, ...]:
        """The M classes, in the order of the logits."""
        return self.bundle.class_names

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that took part."""
        return self.bundle.domains

    def predict(self, images: Iterable[ImageInput] | ImageInput, top: int = TOP) -> list[Prediction]:
        """Classify images.

        Args:
            images: Paths, files as bytes, Pillow images, mixed as they come; or a single one.
            top: How many of the most probable classes to name; fewer where there are fewer.

        Returns:
            One prediction an image, in the order of ``images``, also for those that cannot be used.

        Raises:
            InvalidInput: If ``top`` is below 1.
        """
        return list(self.stream(images, top))

    def stream(self, images: Iterable[ImageInput] | ImageInput, top: int = TOP) -> Iterator[Prediction]:
        """Yield what `predict` returns, batch by batch: any number of images in bounded memory.

        Raises:
            InvalidInput: If ``top`` is below 1.
        """
        if top < 1:
            raise InvalidInput(f"top is at least 1, not {top}")
        for batch in self.answers(_several(images)):
            yield from self._predictions(batch, min(top, len(self.class_names)))

    def features(self, images: Iterable[ImageInput] | ImageInput) -> Tensor:
        """Return image features (N, D), not normalised; a row is NaN where an image cannot be used."""
        parts = [torch.empty(0, self.bundle.shape.feature_size)]
        for batch in self._encoded(_several(images)):
            rows = torch.full((len(batch.names), batch.features.shape[1]), torch.nan)
            rows[batch.usable] = batch.features
            parts.append(rows)
        return torch.cat(parts)

    def answers(self, images: Iterable[ImageInput]) -> Iterator[Answers]:
        """Yield logits batch by batch, in order."""
        for batch in self._encoded(images):
            chosen = self.classifier.routing(batch.features)
            yield Answers(
                batch.names,
                batch.skipped,
                batch.usable,
                batch.features,
                self.classifier.predict(batch.features).cpu(),
                None if chosen is None else chosen.cpu(),
            )

    def _encoded(self, images: Iterable[ImageInput]) -> Iterator["_Encoded"]:
        feed = Feed(self.classifier.encode_images, self._backbone.device, self.bundle.shape.feature_size)
        batches = decoded_batches(images, self._backbone, self.batch_size, self.reading)
        for batch, features in feed(
            (some, [one.pixels for one in some if one.pixels is not None]) for some in batches
        ):
            skipped = [one.skipped for one in batch]
            places = [place for place, one in enumerate(batch) if one.pixels is not None]
            finite = features.isfinite().all(dim=1)
            for place, fine in zip(places, finite.tolist(), strict=True):
                if not fine:
                    skipped[place] = _NOT_FINITE
            usable = torch.tensor(places, dtype=torch.int64)[finite]
            yield _Encoded(tuple(one.name for one in batch), tuple(skipped), usable, features[finite])

    def _predictions(self, batch: Answers, top: int) -> list[Prediction]:
        found = batch.logits.float().softmax(dim=1).topk(top, dim=1)
        names = self.bundle.key_names
        domains = [None] * len(batch.usable) if batch.chosen is None else batch.chosen.tolist()
        answered = {
            place: (probabilities, classes, domain)
            for place, probabilities, classes, domain in zip(
                batch.usable.tolist(), found.values.tolist(), found.indices.tolist(), domains, strict=True
            )
        }
        predictions = []
        for place, (name, skipped) in enumerate(zip(batch.names, batch.skipped, strict=True)):
            if place not in answered:
                predictions.append(Prediction(name, None, None, (), None, skipped))
                continue
            probabilities, classes, domain = answered[place]
            best = tuple(
                (self.class_names[index], probability)
                for index, probability in zip(classes, probabilities, strict=True)
            )
            used = None if domain is None else names[domain]
            predictions.append(Prediction(name, best[0][0], best[0][1], best, used))
        return predictions


@dataclass(frozen=True)
class _Encoded:
    names: tuple[str, ...]
    skipped: tuple[str | None, ...]
    usable: Tensor
    features: Tensor


def load_model(
    bundle: str | os.PathLike[str],
    *,
    pretrained: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    activation: Activation | None = None,
    reading: ReadingOptions = AS_THEY_ARE,
    prior_weight: float | None = None,
) -> Model:
    """Load a finished model and the CLIP it was tuned on.

    Args:
        bundle: The file ``model.safetensors``.
        pretrained: The CLIP's weights, where they lie elsewhere here than where the model was tuned.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: What the CLIP computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"``, which is
            bfloat16 on a GPU that has it, but for the tiny model.
        batch_size: Images that go through the image tower at once; bounds the memory.
        activation: Of the CLIP, where neither its file nor the bundle says it (bundles of format 3).
        reading: How DICOM and NIfTI files are read.
        prior_weight: How much of the untuned CLIP the model keeps, in [0, 1]; ``None`` for what the bundle
            says. See `fedapt_secure.learning.methods.prior`.

    Raises:
        InvalidInput: If the file was changed, is of another version or is no bundle, if the CLIP cannot be
            loaded or has other weights, or an option is out of range.
    """
    read = read_bundle(Path(bundle))
    if prior_weight is not None:
        read = with_prior_weight(read, prior_weight)
    place = resolve_device(device)
    if read.model_identity is None:
        _log.warning(
            "%s is of an older format: it says nothing of its CLIP but the weights; activation, tokenizer and"
            " preparation of images are those of what is here",
            bundle,
        )
    own = None if read.model_identity is None else read.model_identity.activation
    backbone = load_backbone(
        read.model,
        pretrained or read.pretrained,
        place,
        choose_precision(precision, place, read.model),
        activation or own,
    )
    return Model(read, backbone, batch_size, reading)


def with_prior_weight(bundle: Bundle, weight: float) -> Bundle:
    """Return a bundle that keeps another share of the untuned CLIP.

    Raises:
        InvalidInput: If it is no share, or the method leaves nothing of it to be kept.
    """
    try:
        PRIOR_WEIGHT.check(weight)
    except ValueError as error:
        raise InvalidInput(f"prior weight: {error}") from None
    if weight and not method_facts(bundle.shape.method).keeps_prior:
        raise InvalidInput(f"the method {bundle.shape.method} knows no prior weight: leave it out")
    return replace(bundle, prior_weight=weight)


def _several(images: Iterable[ImageInput] | ImageInput) -> Iterable[ImageInput]:
    # A path is itself something to iterate over: without this each of its letters would be a file.
    return [images] if isinstance(images, str | bytes | os.PathLike | Image.Image | Frame) else images
