"""Whether the updates that a plan can bring about survive their way through integers of 32 bits.

Masked updates are sent in fixed point (`fedapt_crypto.fixed_point`): the larger the clip range and the more
institutions, the coarser its step. Where the step is much larger than what a round changes, every update
rounds to nothing: the budget is spent and no parameter moves. Where the clip range is much smaller, all of
them are cut off.

How far a round can go is known beforehand. Each step goes by the learning rate η times a gradient of at most
the clipping norm C, and momentum m adds what is left of the steps before: S steps lead at most

    U = η · C · Σ_{s=1..S} (1 - m^s) / (1 - m)

away, which is U/√d for a typical one of d values. On the shipped data a round's updates were between a third
of that and, without clipping, ten times it.
"""

import math
from collections.abc import Callable
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.fixed_point import MAX_FRACTION_BITS, FixedPoint
from fedapt_secure.config.ranges import number

COARSEST: Final = 1 / 3
"""Largest step of the encoding, as a share of a typical value: rounding errors of length step·√(d/12) then
are a tenth of the update."""
NARROWEST: Final = 1 / 10
"""Smallest clip range, likewise: below it most values are cut off, whatever the data."""


def typical_change(
    *, learning_rate: float, momentum: float, max_grad_norm: float, local_steps: int, values: int
) -> float:
    """Return U/√d, what a round that goes as far as it can changes a parameter by.

    Args:
        learning_rate: η.
        momentum: m, in [0, 1).
        max_grad_norm: C.
        local_steps: S.
        values: d, at least 1.
    """
    fading = momentum * (1 - momentum**local_steps) / (1 - momentum)
    steps = (local_steps - fading) / (1 - momentum)
    return learning_rate * max_grad_norm * steps / math.sqrt(values)


def check_clip(clip: float, summands: int, change: float) -> None:
    """Refuse a clip range whose encoding would leave little of an update.

    Args:
        clip: Largest absolute value that is represented.
        summands: n, how many updates are added.
        change: `typical_change` of the plan.

    Raises:
        InvalidInput: With the figures, and the clip ranges that are possible.
    """
    about = f"a round of this plan changes a parameter by about {change:.2g}"
    if clip < NARROWEST * change:
        raise InvalidInput(
            f"clip {number(clip)} is too small: {about}, and nearly all of it would be cut off; choose"
            f" {_rounded_up(NARROWEST * change)} or more"
        )
    try:
        encoding = FixedPoint(summands=summands, clip=clip)
    except ValueError as error:
        raise InvalidInput(f"clip {number(clip)} cannot be: {error}") from None
    if encoding.resolution > COARSEST * change:
        raise InvalidInput(
            f"clip {number(clip)} is too large: {about}, and of {summands} institutions each would send it in"
            f" steps of {encoding.resolution:.2g}, so that little or nothing of it is left;"
            f" {_advice(encoding.limit, change)}"
        )


def _advice(limit: int, change: float) -> str:
    """Say the largest clip range with a fine enough step, rounded down to two figures."""
    bits = math.ceil(-math.log2(COARSEST * change))
    if bits > MAX_FRACTION_BITS:
        return "no clip has finer ones: raise learning_rate or local_steps"
    return f"choose {_rounded(limit * 2.0**-bits, math.floor)} or less"


def _rounded_up(value: float) -> str:
    return _rounded(value, math.ceil)


def _rounded(value: float, direction: Callable[[float], int]) -> str:
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{direction(value / scale) * scale:.2g}"
