"""The policy's minima: an institution with fewer training images, or fewer persons, does not take part.

What is counted is what trains: pictures that are one record count once, and held-out ones not at all.
A refusal says that there are fewer, not how many: its sentence stands in the log, where of all counts N̂
alone does.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from fedapt_crypto.errors import PolicyRefused
from fedapt_secure.config.policy import Policy

_ALTERNATIVE = "add images, or have the rule in policy.yaml changed"


@dataclass(frozen=True)
class Held:
    """How much an institution has to train on.

    Attributes:
        images: How many training images.
        persons: Of how many persons; ``None`` where the images do not say whose they are.
    """

    images: int
    persons: int | None

    @classmethod
    def of(cls, images: Collection[object], subjects: Collection[str] | None) -> Self:
        """Count training images, and whose they are.

        Args:
            images: One entry for each training image.
            subjects: Whose image each is; ``None`` where that is not known.
        """
        return cls(len(images), None if subjects is None else len(set(subjects)))


def check_minima(policy: Policy, held: Held) -> None:
    """Refuse to take part with less than the policy asks for, with differential privacy and without.

    Args:
        policy: What the institution insists on.
        held: What it has.

    Raises:
        PolicyRefused: If it has fewer images or, where they are known, fewer persons.
    """
    if held.images < policy.minimum_records:
        raise PolicyRefused(
            f"there are fewer training images here than the {policy.minimum_records} that are required:"
            f" {_ALTERNATIVE}",
            rule="minimum_records",
        )
    if held.persons is not None and held.persons < policy.minimum_persons:
        raise PolicyRefused(
            f"the training images here are of fewer persons than the {policy.minimum_persons} that are"
            f" required: {_ALTERNATIVE}",
            rule="minimum_persons",
        )
