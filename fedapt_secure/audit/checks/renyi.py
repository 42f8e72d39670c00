"""Rényi differential privacy at one order, for policies that compose sessions by a Rényi filter."""

import logging
import math
from functools import lru_cache
from typing import Final

_LARGEST_ORDER: Final = 1e5


@lru_cache(maxsize=1024)
def renyi_divergence(sample_rate: float, noise_multiplier: float, order: float) -> float:
    """Return an upper bound on the Rényi divergence of one Poisson-sampled Gaussian step, both directions.

    By ``dp-accounting`` (Mironov, Talwar, Zhang, "Rényi Differential Privacy of the Sampled Gaussian
    Mechanism", 2019); infinite where its series does not converge.

    Args:
        sample_rate: q, in (0, 1].
        noise_multiplier: σ.
        order: α above 1.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not (0 < sample_rate <= 1 and 0 < noise_multiplier < math.inf and 1 < order < _LARGEST_ORDER):
        raise ValueError("the divergence needs a sample rate in (0, 1], positive noise and an order above 1")
    # A second of imports, for those who get here only.
    import dp_accounting  # noqa: PLC0415
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415

    logging.getLogger("absl").setLevel(logging.ERROR)  # it writes to the screen where a series diverges
    accountant = RdpAccountant(orders=[order])
    step = dp_accounting.PoissonSampledDpEvent(sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    try:
        accountant.compose(step)
    except (ValueError, ArithmeticError):
        return math.inf
    return float(accountant.rdp[0])


def rdp_epsilon(divergence: float, order: float, delta: float) -> float:
    """Return ε at δ of a Rényi divergence at one order (Canonne, Kamath, Steinke 2020, proposition 12)."""
    log_ratio = math.log(delta) + math.log(order)
    return max(0.0, divergence + math.log1p(-1 / order) - log_ratio / (order - 1))
