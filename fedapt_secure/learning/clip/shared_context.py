"""Text features of prompts that begin alike: start token and context computed once for all class names.

Causal attention lets no token see a later one. So where all classes share one context, the hidden states of
start and context are the same for each of them, and only the name tokens differ: they attend to the keys and
values that the context left behind in each layer. The answer is that of the plain way, up to rounding.
R contexts, M classes, P = 1 + n_ctx tokens in front, S name tokens, W width, H heads.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.clip.layers import finish, heads, later_than, query, rows_at, sources
from fedapt_secure.learning.clip.text_tower import OwnTextTower


def encode_names(tower: OwnTextTower, front: Tensor, names: Tensor, end_of_text: Tensor) -> Tensor:
    """Return text features of every name after every context; differentiable in ``front``.

    Args:
        tower: One that `shares`.
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
    ends, unseen = (end_of_text - ahead).repeat(sets), _not_yet(length, front.device)
    *blocks, last = tower.module.transformer.resblocks
    for block in blocks:
        in_front = heads(block, first)  # (R, H, P, W/H) each
        later = finish(block, later, _attend(heads(block, later), in_front[1:], unseen, classes))
        first = finish(block, first, F.scaled_dot_product_attention(*in_front, is_causal=True))
    at_end, unseen = rows_at(later, ends), later_than(ends, length)
    own = query(last, at_end), *sources(last, later)
    at_end = finish(last, at_end, _attend(own, sources(last, first), unseen, classes))
    features = tower.answer(at_end.squeeze(1))
    return features.view(sets, classes, features.shape[1])


def _not_yet(length: int, device: torch.device) -> Tensor:
    """Return which names a name does not see, (S, S)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def _attend(own: Sequence[Tensor], front: Sequence[Tensor], unseen: Tensor, classes: int) -> Tensor:
    """Return what T queries attend to, (R·M, H, T, W/H): all of the context, and names up to themselves.

    Args:
        own: Queries (R·M, H, T, W/H), keys and values (R·M, H, S, W/H) of the names.
        front: Keys and values of the context, (R, H, P, W/H); never copied for each class.
        unseen: Names that a query does not see, to be broadcast to (R·M, H, T, S).
        classes: M.
    """
    query, key, value = own
    query = query * query.shape[-1] ** -0.5
    ahead = front[0].shape[2]
    to_front = _per_class(_per_set(query, classes) @ front[0].transpose(-2, -1), classes)  # (R·M, H, T, P)
    to_names = (query @ key.transpose(-2, -1)).masked_fill(unseen, float("-inf"))  # (R·M, H, T, S)
    weights = torch.cat([to_front, to_names], dim=-1).softmax(dim=-1)
    on_front = _per_class(_per_set(weights[..., :ahead], classes) @ front[1], classes)
    attended: Tensor = on_front + weights[..., ahead:] @ value
    return attended


def _per_set(values: Tensor, classes: int) -> Tensor:
    """Return (R, H, M·T, X) from (R·M, H, T, X)."""
    apart = values.unflatten(0, (len(values) // classes, classes))  # type: ignore[no-untyped-call]
    together: Tensor = apart.transpose(1, 2).flatten(2, 3)
    return together


def _per_class(values: Tensor, classes: int) -> Tensor:
    """Return (R·M, H, T, X) from (R, H, M·T, X)."""
    apart = values.unflatten(2, (classes, values.shape[2] // classes))  # type: ignore[no-untyped-call]
    together: Tensor = apart.transpose(1, 2).flatten(0, 1)
    return together
