"""What one unit of privacy is, an image or a person with all images, and how every report says so.

A bound for one unit says nothing about the other. One person's images move a sum that is clipped image by
image further than one image does; and one image can turn a person's clipped sum round, which moves the sum
over persons twice as far as leaving the person out.
"""

from typing import Final, Literal

PrivacyUnit = Literal["image", "person"]
UnitRule = Literal["any", "person"]
"""What a policy asks for."""

IMAGE: Final[PrivacyUnit] = "image"
PERSON: Final[PrivacyUnit] = "person"

_SAID: Final[dict[PrivacyUnit, str]] = {IMAGE: "per image, not per person", PERSON: "per person"}
_COUNTED: Final[dict[PrivacyUnit, str]] = {IMAGE: "records", PERSON: "persons"}


def unit_of(*, has_subjects: bool, private: bool = True) -> PrivacyUnit:
    """Return the unit of a data set: the person where every image has a subject.

    Without differential privacy there is nothing to count persons for: the image.
    """
    return PERSON if has_subjects and private else IMAGE


def said(unit: PrivacyUnit) -> str:
    """Return what a report says of a guarantee, so that nobody takes the one for the other."""
    return _SAID[unit]


def counted(unit: PrivacyUnit) -> str:
    """Return what the declared count N̂ counts: ``records`` or ``persons``."""
    return _COUNTED[unit]
