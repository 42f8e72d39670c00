"""Finds FedAPT's keys from the sums of a few rounds alone.

The right keys leave nothing of a sum outside their row spaces (see `row_spaces`). So: minimise what is left,
over the keys. For given keys the best coefficients g are a least-squares solution, and at the best g the
derivative by the keys is that with g held fixed (variable projection; Golub and Pereyra 1973): one pass back
through the derivative of Σ_i ⟨T(P ⊙ (1 + k_i)), g_i⟩ by P. The keys are written as sigmoids, which keeps them
in (0, 1).
"""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.attacks.federation import Round
from benchmarks.attacks.row_spaces import coefficients, correlation, jacobian, squared_row
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.fedapt import modulate

HISTORY: Final = 100
START_SPREAD: Final = 0.25
"""Keys of U[0, 1) are looked for from U(0.25, 0.75): apart from each other, and far from the ends."""


def random_start(count: int, key: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return first guesses for ``count`` keys (n_ctx, W)."""
    return 0.5 + START_SPREAD * (2 * torch.rand((count, *key), generator=generator) - 1)


def fit_keys(
    text: PromptedText,
    rounds: Sequence[Round],
    start: Tensor,
    evaluations: int,
    ridge: float = 0.0,
    report: Callable[[int, float], None] = lambda number, left: None,
) -> Tensor:
    """Return keys (n, n_ctx, W) that explain the sums; which institution's is which stays open.

    Args:
        text: Encoder of the prompts.
        rounds: Of them, prompts and sums alone are looked at.
        start: First guesses, (n, n_ctx, W), inside (0, 1) and different from each other.
        evaluations: How often the sums are looked at, at most one line search more.
        ridge: What g² costs, over the mean squared row of J at the start. Where many institutions leave
            little of a sum outside even wrong row spaces, how small a g explains it tells more.
        report: Called with the number of each evaluation, and the share of the squared sums that the keys
            leave unexplained, added up over the rounds.
    """
    written = torch.logit(start).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [written],
        max_iter=evaluations,
        max_eval=evaluations,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )
    number = 0
    costs = [
        ridge * squared_row([jacobian(text, one.prompt, key) for key in start]) if ridge else 0.0
        for one in rounds
    ]

    def closure() -> Tensor:
        nonlocal number
        optimizer.zero_grad()
        left = sum(
            _unexplained(text, one, written.sigmoid(), cost) for one, cost in zip(rounds, costs, strict=True)
        )
        assert isinstance(left, Tensor)
        torch.autograd.backward(left)
        number += 1
        report(number, float(left.detach()))
        return left.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return written.detach().sigmoid()


def _unexplained(text: PromptedText, one: Round, keys: Tensor, cost: float) -> Tensor:
    """Return the squared distance that is left, and what g² costs, over the squared sum.

    Its gradient by the keys is the right one, though g is held fixed: g is the best there is.
    """
    jacobians = [jacobian(text, one.prompt, key) for key in keys.detach()]
    solved = coefficients(one.total, jacobians, cost).float()  # (n, M, D)
    prompt = one.prompt.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no second derivative
        features = text.encode(modulate(prompt, keys))  # (n, M, D)
        (explained,) = torch.autograd.grad((features * solved).sum(), prompt, create_graph=True)
        total = one.total.float()
        left = (explained.flatten(1) - total).square().sum() + cost * solved.square().sum()
        return left / total.square().sum()


def matched(found: Sequence[Tensor], true: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the number of each institution's estimate, by the best correlation over all rounds.

    A fit cannot name institutions; the rows of the adaptive network in the sums can, which is not done here.

    Args:
        found: A round's estimates each, (n, M, n_ctx·W).
        true: What they estimate, alike.
    """
    count = len(found[0])
    alike = torch.zeros(count, count)
    for estimates, updates in zip(found, true, strict=True):
        alike += torch.tensor([[correlation(one, other) for other in updates] for one in estimates])
    orders = permutations(range(count))
    return max(orders, key=lambda order: sum(float(alike[one, i]) for i, one in enumerate(order)))
