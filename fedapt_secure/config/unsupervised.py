"""Words and bounds of training without labels that settings and sessions share."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

Augmentation = Literal["flip", "jitter", "greyscale", "blur"]
AUGMENTATIONS: Final[tuple[Augmentation, ...]] = get_args(Augmentation)
"""The paper's, in the order in which they are done."""
WHY_NOT_PRIVATE: Final = (
    "its loss compares each image with others, so that no bound for one of them would hold"
)
"""Why there are no consistency rounds under differential privacy."""


def check_augmentations(names: Sequence[Augmentation]) -> None:
    """Raise `ValueError` unless augmentations stand once each and in their order, at least one."""
    if not names or list(names) != [one for one in AUGMENTATIONS if one in names]:
        raise ValueError(f"augmentations stand once each, in the order {', '.join(AUGMENTATIONS)}")
