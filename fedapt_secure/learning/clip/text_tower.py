"""The part of a CLIP's text tower that comes after the token embeddings, cut to the length in use.

A causal tower that reads its answer at the end-of-text token computes nothing from later positions, so
the sequence may end there. Both properties are checked once, here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import open_clip
import torch
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.layers import are_known, at_positions, rows_at


@dataclass(frozen=True)
class TextTower:
    """A frozen causal text transformer that pools at the end-of-text token.

    Attributes:
        module: The open_clip module that holds the tower.
        text_width: W, width of a token embedding.
        context_length: Longest sequence, in tokens.
    """

    module: Any
    text_width: int
    context_length: int

    @cached_property
    def has_known_layers(self) -> bool:
        """Whether its layers can be worked out by hand, see `layers`."""
        return are_known(self.module.transformer)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Return the embeddings (..., W) of token numbers (...), without positions."""
        embeddings: Tensor = self.module.token_embedding(tokens)
        return embeddings

    def encode(self, embeddings: Tensor, end_of_text: Tensor) -> Tensor:
        """Return text features from token embeddings.

        Args:
            embeddings: Token embeddings without positions, (B, L, W) with L up to the context length.
            end_of_text: Position of each sequence's end-of-text token, (B,).

        Returns:
            Text features, (B, D), not normalised.
        """
        length, mask = embeddings.shape[1], self.module.attn_mask
        hidden = embeddings + self.module.positional_embedding[:length]
        if not self.has_known_layers:
            hidden = self.module.transformer(hidden, attn_mask=mask[:length, :length])
            return self.answer(rows_at(hidden, end_of_text).squeeze(1))
        *layers, last = self.module.transformer.resblocks
        for layer in layers:
            hidden = layer(hidden, attn_mask=mask[:length, :length])
        return self.answer(at_positions(last, hidden, end_of_text).squeeze(1))

    def answer(self, at_end: Tensor) -> Tensor:
        """Return text features (B, D) from the last layer's output at the end-of-text tokens, (B, W)."""
        # The last norm treats each position by itself, so the others need none.
        normed: Tensor = self.module.ln_final(at_end)
        projection = self.module.text_projection
        if projection is None:
            return normed
        is_module = isinstance(projection, torch.nn.Module)
        features: Tensor = projection(normed) if is_module else normed @ projection
        return features


def text_tower_of(model: Any, name: str) -> TextTower:
    """Return the text tower of an open_clip model.

    Args:
        model: An ``open_clip.CLIP`` or ``open_clip.CustomTextCLIP``.
        name: What to call the model in an error.

    Raises:
        InvalidInput: If the tower is not causal or does not pool at the end-of-text token.
    """
    if isinstance(model, open_clip.CLIP):
        module, pool_type = model, model.text_pool_type
    elif isinstance(model, open_clip.CustomTextCLIP):
        module, pool_type = model.text, getattr(model.text, "pool_type", None)
    else:
        raise InvalidInput(
            f"the model {name} is no CLIP with separate image and text towers; name another one"
        )
    is_causal = getattr(module, "attn_mask", None) is not None
    # One position more than tokens means a class token at the end, which sees everything before it.
    has_class_token = is_causal and len(module.positional_embedding) != module.context_length
    if not is_causal or pool_type != "argmax" or has_class_token:
        raise InvalidInput(
            f"the text tower of {name} is not causal or does not read its answer at the end-of-text token,"
            " so prompts cannot be tuned on it exactly; name a model such as ViT-B-32"
        )
    context_length, text_width = module.positional_embedding.shape
    return TextTower(module, text_width, context_length)
