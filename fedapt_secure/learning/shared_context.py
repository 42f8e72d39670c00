"""Text features of prompts that begin alike: start token and context computed once for all class names.

Causal attention lets no token see a later one. So where all classes share one context, the hidden states of
start and context are the same for each of them, and only the name tokens differ: they attend to the keys and
values that the context left behind in each layer. The answer is that of the plain way, up to rounding.
R contexts, M classes, P = 1 + n_ctx tokens in front, S name tokens, W width, H heads.
"""

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor, nn

from fedapt_secure.learning.text_tower import TextTower


def can_share(tower: TextTower) -> bool:
    """Tell whether all layers of a tower are of the kind whose attention is worked out here."""
    transformer = tower.module.transformer
    return type(transformer) is Transformer and all(_is_plain(block) for block in transformer.resblocks)


def encode_names(tower: TextTower, front: Tensor, names: Tensor, end_of_text: Tensor) -> Tensor:
    """Return text features of every name after every context; differentiable in ``front``.

    Args:
        tower: One that `can_share`.
        front: Embeddings of start token and context, without positions, (R, P, W).
        names: Embeddings of the tokens after it, without positions, (M, S, W).
        end_of_text: Position of each name's end-of-text token in the whole prompt, (M,).

    Returns:
        Text features, (R, M, D), not normalised.
    """
    (sets, ahead, _), (classes, length, _) = front.shape, names.shape
    positions = tower.module.positional_embedding[: ahead + length]
    first = front + positions[:ahead]  # (R, P, W)
    later = (names + positions[ahead:]).expand(sets, -1, -1, -1).flatten(0, 1)  # (R·M, S, W)
    blocks = tower.module.transformer.resblocks
    for number, block in enumerate(blocks):
        in_front = _heads(block, first)  # (R, H, P, W/H) each
        later = _finish(block, later, _attend(_heads(block, later), in_front[1:], classes))
        if number + 1 < len(blocks):  # nothing reads what the last layer makes of the context
            first = _finish(block, first, F.scaled_dot_product_attention(*in_front, is_causal=True))
    features = tower.answer(later, (end_of_text - ahead).repeat(sets))
    return features.view(sets, classes, features.shape[1])


def _attend(own: tuple[Tensor, Tensor, Tensor], front: tuple[Tensor, Tensor], classes: int) -> Tensor:
    """Return what name tokens attend to, (R·M, H, S, W/H): all of the context, and names up to themselves.

    Args:
        own: Queries, keys and values of the names, (R·M, H, S, W/H).
        front: Keys and values of the context, (R, H, P, W/H); never copied for each class.
        classes: M.
    """
    query, key, value = own
    query = query * query.shape[-1] ** -0.5
    length, ahead = query.shape[2], front[0].shape[2]
    unseen = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    to_front = _per_class(_per_set(query, classes) @ front[0].transpose(-2, -1), classes)  # (R·M, H, S, P)
    to_names = (query @ key.transpose(-2, -1)).masked_fill(unseen, float("-inf"))  # (R·M, H, S, S)
    weights = torch.cat([to_front, to_names], dim=-1).softmax(dim=-1)
    on_front = _per_class(_per_set(weights[..., :ahead], classes) @ front[1], classes)
    attended: Tensor = on_front + weights[..., ahead:] @ value
    return attended


def _per_set(values: Tensor, classes: int) -> Tensor:
    """Return (R, H, M·S, X) from (R·M, H, S, X)."""
    apart = values.unflatten(0, (len(values) // classes, classes))  # type: ignore[no-untyped-call]
    together: Tensor = apart.transpose(1, 2).flatten(2, 3)
    return together


def _per_class(values: Tensor, classes: int) -> Tensor:
    """Return (R·M, H, S, X) from (R, H, M·S, X)."""
    apart = values.unflatten(2, (classes, values.shape[2] // classes))  # type: ignore[no-untyped-call]
    together: Tensor = apart.transpose(1, 2).flatten(0, 1)
    return together


def _heads(block: ResidualAttentionBlock, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values (B, H, L, W/H) of hidden states (B, L, W)."""
    attention = block.attn
    projected = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    split = projected.view(*hidden.shape[:2], 3, attention.num_heads, attention.head_dim)  # (B, L, 3, H, W/H)
    query, key, value = split.permute(2, 0, 3, 1, 4)
    return query, key, value


def _finish(block: ResidualAttentionBlock, hidden: Tensor, attended: Tensor) -> Tensor:
    """Return a layer's output (B, L, W) from its input and what its heads attended to, (B, H, L, W/H)."""
    hidden = hidden + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    done: Tensor = hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
    return done


def _is_plain(block: nn.Module) -> bool:
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
