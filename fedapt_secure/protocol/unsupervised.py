"""Training on images without labels: what a session says of it. FedAPT (AAAI 2024), reference code.

Two stages. First the untuned CLIP names images of which it is sure, and their augmented views are trained
towards that. In the last rounds, without differential privacy only, each image is also pulled towards what
the present model says of its neighbours. How is in `fedapt_secure.learning.unlabelled` and `consistency`.
"""

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

Augmentation = Literal["flip", "jitter", "greyscale", "blur"]
AUGMENTATIONS: Final[tuple[Augmentation, ...]] = get_args(Augmentation)
"""The paper's, in the order in which they are done."""
LABELS: Final = "labels"
"""What sessions with labels say in place of `UnsupervisedPlan.said`."""
DEFAULT_CONFIDENCE: Final = 0.75
DEFAULT_CONSISTENCY_ROUNDS: Final = 4
DEFAULT_VIEWS: Final = 4
MAX_VIEWS: Final = 64
WHY_NOT_PRIVATE: Final = (
    "its loss compares each image with others, so that no bound for one of them would hold"
)
"""Why there are no consistency rounds under differential privacy."""


class UnsupervisedPlan(BaseModel):
    """How a session trains without labels; institutions must agree on it.

    Attributes:
        confidence: The untuned CLIP's probability from which on its answer is a pseudo-label.
        consistency_rounds: How many of the last rounds are of the second stage; 0 under differential privacy.
        augmentations: What is done, by chance, to an image before it is seen.
        views: How many augmented views of each image are encoded; steps take them in turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: Annotated[float, Field(ge=0, lt=1)] = DEFAULT_CONFIDENCE
    consistency_rounds: Annotated[int, Field(ge=0)] = 0
    augmentations: Annotated[tuple[Augmentation, ...], Field(min_length=1, max_length=4)] = AUGMENTATIONS
    views: Annotated[int, Field(ge=1, le=MAX_VIEWS)] = DEFAULT_VIEWS

    def said(self, rounds: int, *, private: bool) -> str:
        """Return in a few words what takes the place of labels, for log, summary and screen."""
        if private:
            return "pseudo-labels; no consistency rounds, for differential privacy does not allow them"
        if not self.consistency_rounds:
            return "pseudo-labels"
        last = f"the last {self.consistency_rounds} of {rounds} rounds"
        return f"pseudo-labels; consistency with neighbours in {last}"

    @field_validator("augmentations")
    @classmethod
    def _in_order(cls, names: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        if list(names) != [one for one in AUGMENTATIONS if one in names]:
            raise ValueError(f"augmentations stand once each, in the order {', '.join(AUGMENTATIONS)}")
        return names
