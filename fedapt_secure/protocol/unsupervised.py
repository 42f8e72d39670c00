"""Training on images without labels: what a session says of it. FedAPT (AAAI 2024), reference code.

Two stages. First the untuned CLIP names images of which it is sure, and their augmented views are trained
towards that. In the last rounds, without differential privacy only, each image is also pulled towards what
the present model says of its neighbours. How is in `fedapt_secure.learning.training`:
`pseudo_labels` and `consistency`.
"""

from typing import Annotated, Final

from pydantic import ConfigDict, Field, field_validator

from fedapt_crypto.encoding import FailFast
from fedapt_secure.config import ranges
from fedapt_secure.config.unsupervised import (
    AUGMENTATIONS,
    Augmentation,
    ConsistencyLoss,
    PseudoLabelMean,
    check_augmentations,
)

LABELS: Final = "labels"
"""What sessions with labels say in place of `UnsupervisedPlan.said`."""
DEFAULT_CONFIDENCE: Final = 0.75
DEFAULT_CONSISTENCY_ROUNDS: Final = 4
DEFAULT_VIEWS: Final = 4
DEFAULT_CONSISTENCY_LOSS: Final[ConsistencyLoss] = "plain"


class UnsupervisedPlan(FailFast):
    """How a session trains without labels; institutions must agree on it.

    Attributes:
        confidence: The untuned CLIP's probability from which on its answer is a pseudo-label.
        consistency_rounds: How many of the last rounds are of the second stage; 0 under differential privacy.
        augmentations: What is done, by chance, to an image before it is seen.
        views: How many augmented views of each image are encoded; steps take them in turn.
        consistency_loss: How far the second stage takes an image to be from what was said of it, see
            `fedapt_secure.learning.training.consistency`.
        pseudo_label_mean: Over which images the first stage's class loss is a mean; ``batch`` under
            differential privacy.
        transductive: Train on the images held out, whose labels only the evaluation sees, and not on those
            for training: for comparison with figures that were measured so. Never under privacy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: Annotated[float, ranges.CONFIDENCE] = DEFAULT_CONFIDENCE
    consistency_rounds: Annotated[int, ranges.CONSISTENCY_ROUNDS] = 0
    augmentations: Annotated[tuple[Augmentation, ...], Field(min_length=1, max_length=4)] = AUGMENTATIONS
    views: Annotated[int, ranges.VIEWS] = DEFAULT_VIEWS
    consistency_loss: ConsistencyLoss = DEFAULT_CONSISTENCY_LOSS
    pseudo_label_mean: PseudoLabelMean = "batch"
    transductive: Annotated[bool, Field(strict=True)] = False

    def said(self, rounds: int, *, private: bool) -> str:
        """Return in a few words what takes the place of labels, for log, summary and screen."""
        if self.transductive:
            return f"{self._guided_by(rounds, private=private)}; on the images held out (transductive)"
        return self._guided_by(rounds, private=private)

    def _guided_by(self, rounds: int, *, private: bool) -> str:
        if private:
            return "pseudo-labels; no consistency rounds, for differential privacy does not allow them"
        if not self.consistency_rounds:
            return "pseudo-labels"
        last = f"the last {self.consistency_rounds} of {rounds} rounds"
        return f"pseudo-labels; consistency with neighbours in {last}"

    @field_validator("augmentations")
    @classmethod
    def _in_order(cls, names: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        check_augmentations(names)
        return names
