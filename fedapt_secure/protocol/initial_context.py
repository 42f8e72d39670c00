"""Words that a learned context starts from, with their token embeddings: the coordinator has no CLIP."""

import base64
import binascii
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from fedapt_crypto.encoding import FailFast
from fedapt_crypto.errors import InvalidInput

PAPER_WORDS: Final = "a photo of a"
"""What the unsupervised setting starts from (FedAPT, DESIGN section 2)."""
MAX_EMBEDDING: Final = 100.0
_MAX_CHARACTERS: Final = 1 << 20


class InitialContext(FailFast):
    """Words at the first places of every context.

    Attributes:
        words: What they are, for people; each institution compares the values with its own CLIP's.
        values: Their token embeddings (T, W), little-endian float32, base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Annotated[str, Field(min_length=1, max_length=256)]
    values: Annotated[str, Field(min_length=4, max_length=_MAX_CHARACTERS)]

    @classmethod
    def of(cls, words: str, embeddings: NDArray[np.float32]) -> "InitialContext":
        """Return words with their embeddings (T, W)."""
        return cls(words=words, values=base64.b64encode(embeddings.astype("<f4").tobytes()).decode())

    def embeddings(self, text_width: int) -> NDArray[np.float32]:
        """Return the embeddings, (T, W).

        Args:
            text_width: W.

        Raises:
            InvalidInput: If they are not whole embeddings of that width with small, finite values.
        """
        try:
            flat = np.frombuffer(base64.b64decode(self.values, validate=True), "<f4").astype(np.float32)
        except (binascii.Error, ValueError):
            raise InvalidInput("initial_context: its values are no base64 of float32 numbers") from None
        if flat.size == 0 or flat.size % text_width:
            raise InvalidInput(
                f"initial_context: its values are no embeddings of width {text_width}: 'fedapt-secure"
                " model-info --words' prints those of a model"
            )
        if not (np.abs(flat) <= MAX_EMBEDDING).all():  # false for NaN as well
            raise InvalidInput("initial_context: its values are not finite or out of range")
        return flat.reshape(-1, text_width)
