"""How well the untuned and the tuned model do on one institution's test records."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.methods.base import Classifier


@dataclass(frozen=True)
class Scores:
    """Counts over test records; counts, because shares of several institutions cannot be added up.

    Attributes:
        test_records: Number of test records.
        zero_shot_correct: Right answers of the untuned model.
        tuned_correct: Right answers of the tuned model.
        routed_correct: Records whose domain the model recognises; 0 where its method knows no domains.
    """

    test_records: int
    zero_shot_correct: int
    tuned_correct: int
    routed_correct: int

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(
            self.test_records + other.test_records,
            self.zero_shot_correct + other.zero_shot_correct,
            self.tuned_correct + other.tuned_correct,
            self.routed_correct + other.routed_correct,
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
def zero_shot_correct(text_features: Tensor, features: Tensor, labels: Tensor) -> int:
    """Count the right answers of the untuned model.

    Args:
        text_features: Of the hand-written prompts, unit-norm, (M, D).
        features: Image features, (N, D).
        labels: Class indices, (N,).
    """
    cosines = F.normalize(features.to(text_features.device), dim=-1) @ text_features.T
    return int((cosines.argmax(dim=1).cpu() == labels).sum())


def evaluate(
    model: Classifier,
    zero_shot: Tensor,
    features: Tensor,
    labels: Tensor,
    domain_index: int,
    tuned_features: Tensor | None = None,
) -> Scores:
    """Score both models on one institution's test records.

    Args:
        model: The tuned model.
        zero_shot: Text features of the hand-written prompts, unit-norm, (M, D).
        features: Image features of the test records, (N, D), not normalised, of the frozen image tower.
        labels: Class indices, (N,).
        domain_index: The institution's domain.
        tuned_features: The same of the model's own image tower, where it changes it.
    """
    tuned = features if tuned_features is None else tuned_features
    routed = model.routing(tuned)
    return Scores(
        test_records=len(labels),
        zero_shot_correct=zero_shot_correct(zero_shot, features, labels),
        tuned_correct=int((model.predict(tuned).argmax(dim=1).cpu() == labels).sum()),
        routed_correct=0 if routed is None else int((routed == domain_index).sum()),
    )
