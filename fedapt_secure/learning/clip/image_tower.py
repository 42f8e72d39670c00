"""The image tower of a CLIP, with its last layer computed at the class token alone, where it is known."""

import copy
from typing import Any

from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from fedapt_secure.learning.clip.layers import are_known, at_first


class AtClassToken(nn.Module):
    """A last layer that gives its output at the class token alone, for nothing reads the others."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: Tensor, attn_mask: None = None) -> Tensor:
        """Return (B, 1, W) from (B, L, W). Image towers have no mask."""
        return at_first(self.block, hidden)


def image_tower_of(model: Any) -> nn.Module:
    """Return a module that gives the image features (B, D) of pixels (B, 3, H, W).

    It holds the very weights of the model's own image tower, in the same order, and gives the same up to
    rounding. A tower that does not read its answer at a class token, or has other layers, is returned itself.

    Args:
        model: An open_clip model with a ``visual`` tower, in the state in which it is to be used.
    """
    if not reads_class_token(model.visual):
        return _without_tokens(model.visual)
    tower = with_the_same_weights(model.visual)
    layers = tower.transformer.resblocks
    layers[-1] = AtClassToken(layers[-1])
    return tower  # type: ignore[no-any-return]


def _without_tokens(tower: Any) -> nn.Module:
    """Return a tower that gives the image's features alone; CoCa's gives those of its patches besides."""
    if getattr(tower, "output_tokens", False):
        tower = with_the_same_weights(tower)
        tower.output_tokens = False
    return tower  # type: ignore[no-any-return]


def reads_class_token(tower: Any) -> bool:
    """Tell whether a tower reads nothing but the class token of its last layer."""
    return (
        type(tower) is VisionTransformer
        and tower.attn_pool is None
        and tower.pool_type == "tok"
        and not tower.output_tokens
        and are_known(tower.transformer)
    )


def with_the_same_weights(module: Any) -> Any:
    """Return a copy of a module that holds the very same tensors."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
