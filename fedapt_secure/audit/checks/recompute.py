"""ε computed anew from what a log records, with an accountant that shares no code with the training's.

Privacy loss distributions by connect-the-dots (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi, "Connect the
Dots", PETS 2022) as in Google's ``dp-accounting``, against Opacus' PRV accountant (Gopi, Lee, Wutschitz,
NeurIPS 2021) used in training, which bounds the remove direction only. Here both directions are computed.

Every figure is an upper bound. Connect-the-dots gives the smallest dominating pair on a grid of mesh h;
rounding every privacy loss up to that grid gives another dominating pair on it and moves a sum of T losses by
less than T·h. So the truth lies between ``epsilon - steps * mesh`` and ``epsilon``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

Event = tuple[float, float]
"""(sample_rate q, noise_multiplier σ) of one Poisson-sampled Gaussian step."""
History = Mapping[Event, int]
"""How many steps of each kind were taken: equal ones are merged, for their order does not matter."""

COARSEST_MESH: Final = 1e-3
_REFINEMENT: Final = 4
_SETTLED: Final = 1e-3
"""A mesh is fine enough when a finer one lowers ε by less than this, absolutely or as a share of ε."""
_MAX_POINTS: Final = 1 << 22
"""Grid points of a composed distribution that are affordable: about a second and 200 MB."""
_BISECTION_ERROR: Final = 1e-9
_ROUNDING: Final = 16 * 2.0**-52
_SMALLEST_DELTA: Final = 1e-12
"""Below it the double precision of the convolution is no longer a bound; the closed form answers instead."""


@dataclass(frozen=True)
class Recomputed:
    """An upper bound on ε of a history, and how far above the truth it can be.

    Attributes:
        remove, add: ε where a record is removed (replaced by a null record), and where it is added.
        mesh: Step of the grid of privacy losses; 0 where the closed form was used.
        error: The truth lies between ``epsilon - error`` and ``epsilon``.
    """

    remove: float
    add: float
    mesh: float
    error: float

    @property
    def epsilon(self) -> float:
        """The larger of both directions."""
        return max(self.remove, self.add)


NOTHING: Final = Recomputed(0.0, 0.0, COARSEST_MESH, 0.0)


def merged(events: Sequence[tuple[float, float, int]]) -> dict[Event, int]:
    """Return a history from (q, σ, steps) entries: equal (q, σ) become one entry, empty ones vanish."""
    history: dict[Event, int] = {}
    for sample_rate, noise_multiplier, steps in events:
        if steps:
            event = (sample_rate, noise_multiplier)
            history[event] = history.get(event, 0) + steps
    return history


def recompute(history: History, delta: float, *, limit: float | None = None) -> Recomputed:
    """Return an upper bound on ε of all steps together, at ``delta``.

    Args:
        history: Steps of each kind.
        delta: δ, in (0, 1).
        limit: Where the answer decides whether a limit is kept, the mesh is refined until it does, as far
            as that is affordable.

    Raises:
        ValueError: If an argument is out of range.
    """
    for (sample_rate, noise_multiplier), steps in history.items():
        if not (0 < sample_rate <= 1 and 0 < noise_multiplier < math.inf and steps >= 1):
            raise ValueError(
                "a history needs sample rates in (0, 1], positive noise and positive step counts"
            )
    if not 0 < delta < 1:
        raise ValueError("delta must lie between 0 and 1")
    return _recompute(tuple(sorted(history.items())), delta, limit)


@lru_cache(maxsize=4096)
def _recompute(history: tuple[tuple[Event, int], ...], delta: float, limit: float | None) -> Recomputed:
    if not history:
        return NOTHING
    mesh, best = COARSEST_MESH, None
    # Raising a transform to the power of T multiplies its rounding errors by T, which must stay far below δ.
    rounding = _ROUNDING * sum(steps for _, steps in history)
    while delta >= max(_SMALLEST_DELTA, rounding):
        try:
            found = _on_grid(history, delta, mesh)
        except (ValueError, ArithmeticError, MemoryError, IndexError):
            break  # outside of what the library's numerics can do: what is known so far stands
        settled = best is not None and best.epsilon - found.epsilon <= _SETTLED * max(1.0, found.epsilon)
        if best is None or found.epsilon <= best.epsilon:
            best = found
        settled = settled or found.error <= 0.01 * found.epsilon
        if settled and (limit is None or not found.epsilon - found.error <= limit < found.epsilon):
            break
        mesh /= _REFINEMENT
    closed = _closed_form(history, delta)
    return closed if best is None or not best.epsilon <= closed.epsilon else best


def _on_grid(history: tuple[tuple[Event, int], ...], delta: float, mesh: float) -> Recomputed:
    # A step's loss is at most that of the unsampled one: 1/(2σ²), and ten deviations of 1/σ for the tails.
    if max(0.5 / sigma**2 + 10 / sigma for (_, sigma), _ in history) / mesh > _MAX_POINTS:
        raise MemoryError
    singles = [_single(sample_rate, sigma, mesh) for (sample_rate, sigma), _ in history]
    counts = [steps for _, steps in history]
    directions = [(one._pmf_remove, one._pmf_add) for one in singles]
    for pmfs in zip(*directions, strict=True):
        if sum(map(_spread, pmfs, counts)) > _MAX_POINTS:
            raise MemoryError
    composed: Any = None
    for single, steps in zip(singles, counts, strict=True):
        part = single.self_compose(steps)
        composed = part if composed is None else composed.compose(part)
    # Both directions are there, and the library's own answer is only the larger one.
    remove = float(composed._pmf_remove.get_epsilon_for_delta(delta))
    add = float(composed._pmf_add.get_epsilon_for_delta(delta))
    if not (0 <= remove < math.inf and 0 <= add < math.inf):
        raise ValueError("no finite bound on this grid")
    error = min(mesh * sum(counts), max(remove, add))
    return Recomputed(remove, add, mesh, error)


@lru_cache(maxsize=64)
def _single(sample_rate: float, noise_multiplier: float, mesh: float) -> Any:
    # A second of imports, for those who get here only.
    from dp_accounting.pld import privacy_loss_distribution  # noqa: PLC0415

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, value_discretization_interval=mesh, sampling_prob=sample_rate
    )


def _spread(pmf: Any, steps: int) -> int:
    """Return about how many grid points the sum of that many losses takes.

    The sum concentrates: 20 standard deviations hold all but far less than any δ that is asked for, and the
    single largest losses come on top.
    """
    dense = pmf.to_dense_pmf()
    losses = np.arange(dense.size)
    mean = float(dense._probs @ losses)
    variance = float(dense._probs @ (losses - mean) ** 2)
    return int(20 * math.sqrt(steps * max(variance, 0.0))) + 2 * int(dense.size)


def _closed_form(history: tuple[tuple[Event, int], ...], delta: float) -> Recomputed:
    """Return ε as if every record were in every batch: never below the truth, for sampling only helps.

    Unsampled Gaussian steps compose to one with μ² = Σ steps/σ² (Dong, Roth, Su, "Gaussian differential
    privacy", 2022), whose δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ) (Balle and Wang, ICML 2018).
    """
    mu = math.sqrt(sum(steps * (1 / sigma) * (1 / sigma) for (_, sigma), steps in history))
    if not 0 < mu < 1e150:
        bound = 0.0 if mu == 0 else math.inf
        return Recomputed(bound, bound, 0.0, bound)
    low, high = 0.0, mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if _gaussian_delta(middle, mu) <= delta else (middle, high)
    unsampled = all(sample_rate == 1 for (sample_rate, _), _ in history)
    return Recomputed(high, high, 0.0, high * _BISECTION_ERROR if unsampled else high)


def _gaussian_delta(epsilon: float, mu: float) -> float:
    first = _normal_cdf(mu / 2 - epsilon / mu)
    second = _normal_cdf(-mu / 2 - epsilon / mu)
    # e^ε may overflow where the second term is negligible or vanishes: dropping it only enlarges δ.
    return first - (math.exp(epsilon) * second if epsilon < 700 else 0.0)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
