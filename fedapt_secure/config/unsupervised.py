"""Words and bounds of training without labels that settings and sessions share."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

ConsistencyLoss = Literal["plain", "reference"]
"""How the second stage measures the distance to what was said of an image: the cross-entropy of its augmented
view, or, as the reference code writes it, of the softmax of that view's probabilities."""
PseudoLabelMean = Literal["batch", "sure"]
"""What a class loss is a mean over: all images of the batch, or those that have a pseudo-label."""
Augmentation = Literal["flip", "jitter", "greyscale", "blur"]
AUGMENTATIONS: Final[tuple[Augmentation, ...]] = get_args(Augmentation)
"""The paper's, in the order in which they are done."""
WHY_SURE_IS_NOT_PRIVATE: Final = (
    "how many of a batch are sure would decide on the weight of each, and no bound for one of them would hold"
)
"""Why the mean is over the batch under differential privacy."""
WHY_NOT_PRIVATE: Final = (
    "its loss compares each image with others, so that no bound for one of them would hold"
)
"""Why there are no consistency rounds under differential privacy."""


def check_augmentations(names: Sequence[Augmentation]) -> None:
    """Raise `ValueError` unless augmentations stand once each and in their order, at least one."""
    if not names or list(names) != [one for one in AUGMENTATIONS if one in names]:
        raise ValueError(f"augmentations stand once each, in the order {', '.join(AUGMENTATIONS)}")
