"""How well the untuned and the tuned model do on one institution's test records."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.evaluation.tally import TOP, Tally
from fedapt_secure.learning.methods.base import Classifier, Pixels
from fedapt_secure.learning.methods.fedapt import FedAptModel

_IMAGES_AT_ONCE: Final = 64
UNIFORM_ROUTING: Final = "uniform"
"""One prompt for all images, of every key in equal shares."""
ORACLE_ROUTING: Final = "oracle"
"""The keys of an image's own domain, which somebody says."""


@dataclass(frozen=True)
class Scores:
    """Counts over test records; counts, because shares of several institutions cannot be added up.

    Attributes:
        test_records: Number of test records.
        zero_shot_correct: Right answers of the untuned model.
        tuned_correct: Right answers of the tuned model.
        routed_correct: Records whose domain the model recognises; 0 where its method knows no domains.
        tally: What the tuned model answered, class by class.
        zero_shot_by_class: Right answers of the untuned model, by class.
        correct_by_routing: Right answers of the tuned model with other routing than its own; empty where its
            method routes nothing.
    """

    test_records: int
    zero_shot_correct: int
    tuned_correct: int
    routed_correct: int
    tally: Tally = field(default_factory=Tally)
    correct_by_routing: Mapping[str, int] = field(default_factory=dict)
    zero_shot_by_class: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(
            self.test_records + other.test_records,
            self.zero_shot_correct + other.zero_shot_correct,
            self.tuned_correct + other.tuned_correct,
            self.routed_correct + other.routed_correct,
            self.tally + other.tally,
            Counter(self.correct_by_routing) + Counter(other.correct_by_routing),
            self.zero_shot_by_class + other.zero_shot_by_class,
        )

    @property
    def zero_shot_accuracy(self) -> float:
        """Share of right answers of the untuned model, in [0, 1]; 0 without records."""
        return self.zero_shot_correct / max(1, self.test_records)

    @property
    def tuned_accuracy(self) -> float:
        """Share of right answers of the tuned model, in [0, 1]; 0 without records."""
        return self.tuned_correct / max(1, self.test_records)

    @property
    def routing_share(self) -> float:
        """Share of records routed to their own domain, in [0, 1]; 0 without records."""
        return self.routed_correct / max(1, self.test_records)


@torch.no_grad()
def zero_shot_correct(text_features: Tensor, features: Tensor, labels: Tensor) -> Counter[int]:
    """Count the right answers of the untuned model, by class.

    Args:
        text_features: Of the hand-written prompts, unit-norm, (M, D).
        features: Image features, (N, D).
        labels: Class indices, (N,).
    """
    cosines = F.normalize(features.to(text_features.device), dim=-1) @ text_features.T
    return Counter(labels[cosines.argmax(dim=1).cpu() == labels].tolist())


def tally_of(logits: Tensor, labels: Tensor, chosen: Tensor | None) -> Tally:
    """Count the answers of a model.

    Args:
        logits: (N, M).
        labels: Class indices, (N,).
        chosen: Domain index that each image was routed to, (N,); ``None`` where the method knows none.
    """
    logits, labels = logits.cpu(), labels.cpu()
    best = logits.topk(min(TOP, logits.shape[1]), dim=1).indices  # (N, up to 5)
    pairs = Counter(zip(labels.tolist(), best[:, 0].tolist(), strict=True))
    in_top_5 = int((best == labels.unsqueeze(1)).any(dim=1).sum())
    return Tally(pairs, in_top_5, Counter() if chosen is None else Counter(chosen.tolist()))


@torch.no_grad()
def own_features(model: Classifier, images: Pixels, count: int) -> Tensor:
    """Return the features (count, D) of a model's own image tower, on the CPU.

    Args:
        model: One that changes the image tower.
        images: Gives the pixels of record numbers below ``count``.
        count: Number of images.
    """
    batches = torch.split(torch.arange(count), _IMAGES_AT_ONCE) if count else ()
    parts = [model.encode_images(images(numbers)).cpu() for numbers in batches]
    return torch.cat(parts) if parts else torch.zeros(0, model.backbone.feature_size)


def evaluate(
    model: Classifier,
    zero_shot: Tensor,
    features: Tensor,
    labels: Tensor,
    own_keys: Collection[int],
    tuned_features: Tensor | None = None,
) -> Scores:
    """Score both models on one institution's test records.

    Args:
        model: The tuned model.
        zero_shot: Text features of the hand-written prompts, unit-norm, (M, D).
        features: Image features of the test records, (N, D), not normalised, of the frozen image tower.
        labels: Class indices, (N,).
        own_keys: Indices of the keys that serve the institution's domain.
        tuned_features: The same of the model's own image tower, where it changes it.
    """
    tuned = features if tuned_features is None else tuned_features
    routed = model.routing(tuned)
    tally = tally_of(model.predict(tuned), labels, routed)
    untuned = zero_shot_correct(zero_shot, features, labels)
    return Scores(
        test_records=len(labels),
        zero_shot_correct=untuned.total(),
        tuned_correct=tally.correct,
        routed_correct=sum(tally.keys[key] for key in own_keys),
        tally=tally,
        zero_shot_by_class=untuned,
        correct_by_routing=_by_other_routing(model, tuned, labels, own_keys),
    )


def _by_other_routing(
    model: Classifier, features: Tensor, labels: Tensor, own_keys: Collection[int]
) -> dict[str, int]:
    if not isinstance(model, FedAptModel) or not own_keys:
        return {}
    answers = {
        UNIFORM_ROUTING: model.predict_without_routing(features),
        ORACLE_ROUTING: model.predict_knowing_domains(features, own_keys),
    }
    return {name: int((logits.argmax(dim=1).cpu() == labels).sum()) for name, logits in answers.items()}
