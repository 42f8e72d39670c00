"""Layers of a CLIP's transformers, worked out by hand where only a part of what they give is needed.

A CLIP reads its answer at one position: the class token of an image, the end-of-text token of a prompt. The
last layer is needed there alone: keys and values of all positions, but one query, one output and one pass
through the feed-forward part, which are 10 of the 12 W² multiplications a token. The answer is that of the
whole layer, up to rounding.

B sequences of L tokens, W width, H heads.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor, nn


def are_known(transformer: Any) -> bool:
    """Tell whether all layers of a transformer are of the kind that is worked out here."""
    return (
        type(transformer) is Transformer
        and bool(transformer.batch_first)
        and not transformer.grad_checkpointing
        and all(is_known(block) for block in transformer.resblocks)
    )


def is_known(block: nn.Module) -> bool:
    """Tell whether a layer is of the kind that is worked out here."""
    if type(block) is not ResidualAttentionBlock or type(block.attn) is not nn.MultiheadAttention:
        return False
    attention = block.attn
    return (
        attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and attention.dropout == 0
        and not hasattr(block, "ln_1_kv")
    )


def at_first(block: ResidualAttentionBlock, hidden: Tensor) -> Tensor:
    """Return a layer's output (B, 1, W) at the first position, which sees all of the inputs (B, L, W)."""
    asking = hidden[:, :1]
    return finish(
        block, asking, F.scaled_dot_product_attention(query(block, asking), *sources(block, hidden))
    )


def at_positions(
    block: ResidualAttentionBlock, hidden: Tensor, positions: Tensor, *, is_causal: bool = True
) -> Tensor:
    """Return a layer's output at one position of each sequence.

    Args:
        block: A layer that `is_known`.
        hidden: Its inputs, (B, L, W).
        positions: Where each sequence is read, (B,), each in [0, L).
        is_causal: Whether a position sees no later one; otherwise it sees all.

    Returns:
        (B, 1, W).
    """
    asking = rows_at(hidden, positions)
    seen = ~later_than(positions, hidden.shape[1]) if is_causal else None
    attended = F.scaled_dot_product_attention(query(block, asking), *sources(block, hidden), attn_mask=seen)
    return finish(block, asking, attended)


def rows_at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Return the hidden states (B, 1, W) at one position (B,) of each sequence (B, L, W)."""
    return hidden[torch.arange(len(hidden), device=hidden.device), positions].unsqueeze(1)


def later_than(positions: Tensor, length: int) -> Tensor:
    """Return which of L = ``length`` tokens come after a position (B,): booleans (B, 1, 1, L)."""
    return (torch.arange(length, device=positions.device) > positions[:, None])[:, None, None, :]


def query(block: ResidualAttentionBlock, hidden: Tensor) -> Tensor:
    """Return the queries (B, H, L, W/H) of hidden states (B, L, W)."""
    return _projected(block, hidden, 0, 1).squeeze(0)


def sources(block: ResidualAttentionBlock, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values (B, H, L, W/H) of hidden states (B, L, W)."""
    key, value = _projected(block, hidden, 1, 3)
    return key, value


def heads(block: ResidualAttentionBlock, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values (B, H, L, W/H) of hidden states (B, L, W)."""
    query, key, value = _projected(block, hidden, 0, 3)
    return query, key, value


def finish(block: ResidualAttentionBlock, hidden: Tensor, attended: Tensor) -> Tensor:
    """Return a layer's output from its input and what its heads attended to.

    Args:
        block: A layer that `is_known`.
        hidden: Its input, (B, L, W).
        attended: (B, H, L, W/H).

    Returns:
        (B, L, W).
    """
    hidden = hidden + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    done: Tensor = hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
    return done


def _projected(block: ResidualAttentionBlock, hidden: Tensor, start: int, end: int) -> Tensor:
    """Return parts ``start`` to ``end`` of queries, keys and values, (end - start, B, H, L, W/H)."""
    attention, width = block.attn, hidden.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    some = slice(start * width, end * width)
    projected = F.linear(block.ln_1(hidden), weight[some], None if bias is None else bias[some])
    split = projected.view(*hidden.shape[:2], end - start, attention.num_heads, attention.head_dim)
    parts: Tensor = split.permute(2, 0, 3, 1, 4)
    return parts
