"""How many floating-point operations the towers take: matrix products alone, a product of sums as two."""

from typing import Any

from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.text import PromptedText


def layers_flop(width: int, mlp: int, layers: int, length: int) -> float:
    """Return the FLOP of a transformer on one sequence whose answer is read at one position.

    A layer multiplies each of L tokens by 4W² (queries, keys, values, output) and 2·W·W_mlp weights, and
    forms L² scores and L² weighted sums of width W: 2·L·(4W² + 2·W·W_mlp) + 4·L²·W. The last one has keys
    and values of all tokens, and the rest for one.
    """
    per_token, asking = 4 * width * width + 2 * width * mlp, 2 * width * width + 2 * width * mlp
    whole = 2.0 * length * per_token + 4.0 * length * length * width
    last = 2.0 * (length * (per_token - asking) + asking) + 4.0 * length * width
    return (layers - 1) * whole + last


def image_flop(backbone: Backbone) -> float | None:
    """Return the FLOP of one image through a vision transformer of open_clip; ``None`` for another tower."""
    tower: Any = backbone.text_tower.module.visual
    if not hasattr(tower, "transformer") or not hasattr(tower, "conv1"):
        return None
    patches = tower.grid_size[0] * tower.grid_size[1]
    width, embed = tower.conv1.out_channels, 2.0 * patches * tower.conv1.weight.numel()
    projected = 2.0 * width * backbone.feature_size
    return embed + _transformer(tower.transformer, patches + 1) + projected


def text_step_flop(text: PromptedText, length: int) -> float:
    """Return the FLOP of text features and of the way back to the prompts.

    The weights are frozen, so the way back costs what the way there does: one product for each, in place of
    two (scores and weighted sums cost twice theirs; they are counted so).
    """
    tower: Any = text.backbone.text_tower.module
    classes = len(text.class_names)
    there = _transformer(tower.transformer, length)
    width, layers = tower.transformer.width, tower.transformer.layers
    back = there + 4.0 * ((layers - 1) * length * length + length) * width
    return classes * (there + back)


def prompt_length(text: PromptedText) -> int:
    """Return how many tokens a prompt has, start and end included."""
    return 1 + text.context_tokens + text._name.shape[1]


def _transformer(transformer: Any, length: int) -> float:
    mlp = transformer.resblocks[0].mlp.c_fc.out_features
    return layers_flop(transformer.width, mlp, transformer.layers, length)
