"""The token embeddings of words that contexts start from, as a CLIP has them."""

import numpy as np
import torch
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.protocol.initial_context import InitialContext

_TOLERANCE = 1e-6


def initial_context(backbone: Backbone, words: str) -> InitialContext:
    """Return words as a session's plan carries them.

    Args:
        backbone: The frozen CLIP.
        words: Such as "a photo of a"; a token each place.

    Raises:
        InvalidInput: If there is no word, or there are too many for the text tower.
    """
    return InitialContext.of(words, _embeddings(backbone, words))


def check_initial_context(backbone: Backbone, given: InitialContext) -> None:
    """Refuse a session whose values are not those of its words.

    Raises:
        InvalidInput: If they are not.
    """
    values = given.embeddings(backbone.text_width)
    expected = _embeddings(backbone, given.words)
    if values.shape != expected.shape or not np.allclose(values, expected, atol=_TOLERANCE):
        raise InvalidInput(
            f"the session's initial_context is not what {backbone.name} makes of {given.words!r}: its"
            " operator finds the values with 'fedapt-secure model-info --words'"
        )


def _embeddings(backbone: Backbone, words: str) -> NDArray[np.float32]:
    tokens = backbone.prompt_tokens.words(words)
    if not 0 < len(tokens) < backbone.context_length - backbone.prompt_tokens.start - 1:
        raise InvalidInput(f"the words {words!r} cannot start a context: give some, and not a whole sentence")
    places = torch.tensor(tokens, device=backbone.device)
    embedded: NDArray[np.float32] = backbone.text_tower.embed_tokens(places).detach().cpu().numpy()
    return embedded
