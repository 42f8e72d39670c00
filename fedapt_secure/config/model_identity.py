"""What a CLIP's features follow from besides its weights, as settings, sessions and bundles say it.

Two parties with equal weights compute other features where the activation, an architecture's setting, the
tokenizer or the preparation of images differs, and nothing else would show it. So a session names all of
it, field by field, and
one hash over everything with the weights: `ModelIdentity.hash_with`.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from fedapt_crypto.encoding import FailFast
from fedapt_secure.config import ranges

Activation = Literal["gelu", "quick-gelu"]
"""Of open_clip's own towers: GELU, or its approximation x · sigmoid(1.702 x), which OpenAI's have."""
GELU: Final[Activation] = "gelu"
QUICK_GELU: Final[Activation] = "quick-gelu"
ACTIVATIONS: Final[tuple[Activation, ...]] = (GELU, QUICK_GELU)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Side = Annotated[int, ranges.IMAGE_SIDE]
_Mean = Annotated[float, ranges.CHANNEL_MEAN]
_Spread = Annotated[float, ranges.CHANNEL_SPREAD]
_Word = Annotated[str, Field(min_length=1, max_length=32)]


class ModelIdentity(FailFast):
    """What features follow from besides the weights.

    Attributes:
        architecture: SHA-256 of the settings of both towers, hexadecimal; see `clip.identity`.
        activation: Of open_clip's own towers.
        tokenizer: SHA-256 of vocabulary, rules and settings of the tokenizer, hexadecimal.
        image_size: Height and width that images are brought to, pixels.
        mean, std: What is subtracted from each of R, G and B, in [0, 1], and what it is divided by.
        interpolation: How pixels are interpolated, such as ``bicubic``.
        resize_mode: ``shortest`` (and cropped), ``longest`` (and padded) or ``squash``.
        fill: What padding is filled with, 0 to 255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Sha256
    activation: Activation
    tokenizer: Sha256
    image_size: tuple[_Side, _Side]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Spread, _Spread, _Spread]
    interpolation: _Word
    resize_mode: _Word
    fill: Annotated[int, ranges.FILL]

    def hash_with(self, weight_hash: str) -> str:
        """Return the model's hash, hexadecimal: SHA-256 over the weights' hash and all fields.

        Args:
            weight_hash: SHA-256 of the weights, hexadecimal.
        """
        described = json.dumps(
            {"weights": weight_hash, **self.model_dump(mode="json")}, sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(b"fedapt-secure model 1\n" + described.encode()).hexdigest()

    def differences(self, other: "ModelIdentity") -> Iterator[tuple[str, str, str]]:
        """Yield each field that differs: its name, and what it is here and there, short enough for a line."""
        for name in type(self).model_fields:
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                yield name, _said(here), _said(there)


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value) + "]"
    text = str(value)
    return f"{text[:16]}..." if len(text) == 64 else text
