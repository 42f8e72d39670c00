"""Hand-written prompts for zero-shot CLIP: one sentence, or one of the usual ensembles by its name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import open_clip

from fedapt_crypto.errors import InvalidInput

PLACE: Final = "{}"
_ENSEMBLES: Final[Mapping[str, tuple[Callable[[str], str], ...]]] = MappingProxyType(
    {
        "imagenet": tuple(open_clip.OPENAI_IMAGENET_TEMPLATES),
        "imagenet-7": tuple(open_clip.SIMPLE_IMAGENET_TEMPLATES),
    }
)
"""The 80 templates of CLIP (Radford et al. 2021, section 3.1.4), and the 7 that do most of it."""


def zero_shot_templates(template: str) -> tuple[str, ...]:
    """Return the sentences that a template stands for.

    Args:
        template: A sentence with one ``{}`` where the class name goes, or ``imagenet`` or ``imagenet-7``.

    Raises:
        InvalidInput: If it is neither.
    """
    if template in _ENSEMBLES:
        return tuple(one(PLACE) for one in _ENSEMBLES[template])
    if template.count(PLACE) != 1:
        raise InvalidInput(
            f"a prompt template has one {{}} for the class name, or is called {' or '.join(_ENSEMBLES)};"
            f" {template!r} is neither"
        )
    return (template,)
