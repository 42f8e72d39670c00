"""How well a finished model does on somebody's own labelled images; nothing leaves the machine."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.inference.decoding import Frame, ImageInput
from fedapt_secure.inference.labelled import Labelled
from fedapt_secure.inference.predictor import Model
from fedapt_secure.learning.data.reading.records import Record
from fedapt_secure.learning.evaluation.scores import tally_of
from fedapt_secure.learning.evaluation.tally import Tally, per_class, routing_matrix

Progress = Callable[[int], None]
"""Told how many more images are done."""


@dataclass(frozen=True)
class Evaluation:
    """What was counted.

    Attributes:
        class_names: The M classes.
        keys: Names of the model's K keys; empty where its method knows none.
        own_keys: The keys that serve each domain of the model.
        by_domain: Counts by the images' own domain.
        knows_domains: Whether the data say domains.
        skipped: Name and reason of images that could not be used.
    """

    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    own_keys: Mapping[str, frozenset[int]]
    by_domain: dict[str, Tally]
    knows_domains: bool
    skipped: tuple[tuple[str, str], ...]

    @property
    def total(self) -> Tally:
        """The counts of all domains together."""
        return sum(self.by_domain.values(), Tally())

    def to_fields(self) -> dict[str, Any]:
        """Return the figures for JSON; shares are in [0, 1]."""
        total, classes = self.total, per_class(self.total, self.class_names)
        recalls = [one.recall for one in classes if one.recall is not None]
        parts = self.by_domain.values()
        fields: dict[str, Any] = {
            "images": total.images,
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
            "top_1": total.accuracy,
            "top_5": total.top_5_accuracy,
            "mean_recall": sum(recalls) / len(recalls),
            "mean_over_domains": {
                "top_1": sum(part.accuracy for part in parts) / len(parts),
                "top_5": sum(part.top_5_accuracy for part in parts) / len(parts),
            },
            "per_domain": {name: self._domain_fields(name) for name in self.by_domain},
            "per_class": [asdict(one) for one in classes],
            "confusion": total.to_fields()["confusion"],
            "routing": None,
        }
        if self.keys:
            counts = routing_matrix(self.by_domain, len(self.keys)).tolist()
            rows = dict(zip(self.by_domain, counts, strict=True))
            fields["routing"] = {"keys": list(self.keys), "counts": rows}
        return fields

    def _domain_fields(self, name: str) -> dict[str, Any]:
        tally = self.by_domain[name]
        right = None
        if self.keys and name in self.own_keys:
            right = sum(tally.keys[key] for key in self.own_keys[name]) / tally.images
        return {
            "images": tally.images,
            "top_1": tally.accuracy,
            "top_5": tally.top_5_accuracy,
            "right_key": right,
        }


def _image(record: Record) -> ImageInput:
    return record.path if record.frame is None else Frame(record.path, record.frame)


def evaluate_on(model: Model, data: Labelled, progress: Progress | None = None) -> Evaluation:
    """Classify labelled images and count the answers.

    Args:
        model: The finished model.
        data: The images.
        progress: Told after each batch.

    Raises:
        InvalidInput: If none of the images can be used.
    """
    skipped = list(data.unreadable)
    by_domain = {}
    # In the model's order, so that in a picture what was routed rightly lies on the diagonal.
    order = {name: place for place, name in enumerate(model.domains)}
    for domain, records in sorted(
        data.by_domain.items(), key=lambda one: (order.get(one[0], len(order)), one[0])
    ):
        labels, done, tally = torch.tensor([record.label for record in records]), 0, Tally()
        for batch in model.answers([_image(record) for record in records]):
            tally += tally_of(batch.logits, labels[done + batch.usable], batch.chosen)
            skipped += [
                (name, reason)
                for name, reason in zip(batch.names, batch.skipped, strict=True)
                if reason is not None
            ]
            done += len(batch.names)
            if progress is not None:
                progress(len(batch.names))
        if tally.images:
            by_domain[domain] = tally
    if not by_domain:
        name, reason = skipped[0]
        raise InvalidInput(f"none of the {len(skipped)} images can be used; the first, {name}: {reason}")
    keys = model.bundle.key_names if any(tally.keys for tally in by_domain.values()) else ()
    return Evaluation(
        model.class_names, keys, model.bundle.own_keys, by_domain, data.knows_domains, tuple(skipped)
    )
