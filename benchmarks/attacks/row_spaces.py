"""Takes the sum of several FedAPT updates apart, where the keys are known.

Institution i's loss sees the prompt only through the text features T(P ⊙ (1 + k_i)), so each of its steps
lies in the row space of J_i = ∂T/∂P: for each class D numbers, in a vector of n_ctx·W. Noise of the private
mechanism is added to those D numbers and lies there too. Other keys turn this space elsewhere, and while the
spaces have room beside each other the sum has only one decomposition. After several steps that is near the
truth only, the more so the larger they are: then the smallest coefficients that nearly explain the sum serve
better than those that explain it exactly (ridge regression).

M classes, D joint embedding, W text width, n institutions.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.fedapt import modulate

RANK_TOLERANCE: Final = 1e-5
"""Relative: T has unit norm, so J has rank D - 1, and the last singular value is float32's rounding."""


ROUNDING: Final = 1e-9
"""Relative: below it, the difference of two estimates is that of two ways to add up."""


def jacobian(text: PromptedText, prompt: Tensor, key: Tensor) -> Tensor:
    """Return ∂T/∂P for each class, (M, D, n_ctx·W), float64.

    Args:
        text: Encoder of the prompts.
        prompt: P, (M, n_ctx, W).
        key: k, (n_ctx, W).
    """
    context = prompt.detach().clone().requires_grad_()
    features = text.encode(modulate(context, key).unsqueeze(0))[0]  # (M, D)
    size = features.shape[1]
    entries = torch.eye(size)[:, None, :].expand(
        size, *features.shape
    )  # a class depends on its own context only
    (rows,) = torch.autograd.grad(features, context, entries, is_grads_batched=True)  # (D, M, n_ctx, W)
    return rows.flatten(2).transpose(0, 1).double()


def squared_row(jacobians: Sequence[Tensor]) -> float:
    """Return the mean squared norm of a row of J: what a ridge is relative to."""
    return float(torch.stack([rows.square().sum(dim=-1).mean() for rows in jacobians]).mean())


def coefficients(total: Tensor, jacobians: Sequence[Tensor], cost: float = 0.0) -> Tensor:
    """Return the g, (n, M, D), for which Σ_i J_iᵀ g_i is closest to a sum.

    Args:
        total: The sum, (M, n_ctx·W).
        jacobians: n of (M, D, n_ctx·W).
        cost: Of g², in squared distance (ridge regression); at 0 the smallest g of the closest is taken.
    """
    rows = torch.cat(list(jacobians), dim=1)  # (M, n·D, n_ctx·W)
    solved: Tensor
    if cost:
        squares = rows @ rows.transpose(1, 2)
        eye = torch.eye(squares.shape[1], dtype=squares.dtype)
        solved = torch.linalg.solve(squares + cost * eye, rows @ total.unsqueeze(-1))
    else:
        turned, wanted = rows.transpose(1, 2), total.unsqueeze(-1)
        solved = torch.linalg.lstsq(turned, wanted, rcond=RANK_TOLERANCE, driver="gelsd").solution
    return solved.view(len(total), len(jacobians), -1).transpose(0, 1)


def take_apart(text: PromptedText, prompt: Tensor, total: Tensor, keys: Tensor, ridge: float = 0.0) -> Tensor:
    """Return an estimate of each summand, (n, M, n_ctx·W).

    Args:
        text: Encoder of the prompts.
        prompt: P at the round's start, (M, n_ctx, W).
        total: The sum, (M, n_ctx·W).
        keys: What each institution's key is taken for, (n, n_ctx, W).
        ridge: What g² costs, see `coefficients`, over the mean squared row of J.
    """
    jacobians = [jacobian(text, prompt, key) for key in keys]
    found = coefficients(total, jacobians, ridge * squared_row(jacobians))
    return torch.stack(
        [torch.einsum("md,mdp->mp", g, rows) for g, rows in zip(found, jacobians, strict=True)]
    )


def correlation(found: Tensor, true: Tensor) -> float:
    """Return the cosine of two updates; 0 where one of them is nothing but rounding."""
    norms = float(found.norm() * true.norm())
    return float((found * true).sum()) / norms if norms > 0 else 0.0


def without_mean(updates: Tensor, groups: Sequence[int]) -> Tensor:
    """Return by how much each summand (n, …) differs from its group's mean; rounding is 0."""
    members = torch.tensor(groups)
    apart = torch.stack(
        [one - updates[members == group].mean(dim=0) for one, group in zip(updates, groups, strict=True)]
    )
    return torch.where(apart.abs() > ROUNDING * updates.abs().max(), apart, torch.zeros_like(apart))
