"""The Gaussian mechanism of a training step on a grid of integers, as an Opacus optimizer.

A textbook float Gaussian leaks through its low-order bits (Mironov 2012, "On Significance of the Least
Significant Bits for Differential Privacy"). So the clipped sum S of d values becomes integers
s = rint(S/γ) first, and what leaves is γ·(s + z) with z = rint(σΔZ/γ), Z standard normal. For integral s
that equals γ·rint(s + σΔZ/γ): post-processing of the Gaussian mechanism, whose accountants stay valid.

Sensitivity. A unit is one record, or all records of one person. Two neighbouring data sets differ in one
unit whose records are there or each count as zero, so batches have the same shape and the other records the
same gradients, bit for bit. The gradients of a unit's records are summed in float64 before clipping, from
that unit's records alone and in an order that follows from shapes (`unit_sums`), so the other units' sums
are the same as well, however large the terms and however badly they cancel: only the changed unit's own sum
is touched by that rounding, and whatever it is, it is clipped. At most 2²² terms below 2¹²⁸ stay far from
the end of float64, in a norm too. A record whose gradient is not finite counts as zero in its unit's sum:
what it counts as depends on itself alone, so a unit is still a function of its own records.

Hence the float64 sums over units differ by at most C: one clipped sum, C(1 - 2⁻¹²), and rounding errors, for
which the slack C·2⁻¹² is kept. A sum over chunks of at most b units, m chunks, B ≤ b·m units, has an error of
at most (b + m + 3)·u·B·C in norm, u = 2⁻⁵³ (Higham 2002, section 4.2, in any order of summation; clipping's
own relative error is d·u). A chunk of records completes at most as many units, so with `MAX_CHUNK_RECORDS`
and `MAX_BATCH_RECORDS` twice that is below C·2⁻¹⁶. Rounding to the grid moves each of d values by at most γ/2
on either side. Together ‖γs - γs'‖ ≤ Δ = C + γ√d.

What the float sampler of Z adds to (ε, δ) is bounded in docs/decisions/0004-noise-on-a-grid.md.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip.device import sent
from fedapt_secure.learning.privacy.noise import gaussian
from fedapt_secure.learning.privacy.record_gradients import (
    RecordGradients,
    WholeGradients,
    joint_norms,
    record_gradients,
)
from fedapt_secure.learning.privacy.unit_sums import UnitSums

MECHANISM_NAME: Final = "gaussian-grid"
"""What plans and logs call this mechanism."""
CLIPPING_SLACK: Final = 2.0**-12
"""Share of C that is kept for the rounding errors of clipping and summing."""
GRID_SHARE: Final = 2.0**-20
"""γ / C: one step of the grid."""
MAX_CHUNK_RECORDS: Final = 1 << 13
MAX_BATCH_RECORDS: Final = 1 << 22
MAX_NOISE_MULTIPLIER: Final = float(1 << 20)
"""Keeps z below 2⁴⁵: integers up to 2⁵³ are exact in float64."""


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism of one step.

    Attributes:
        noise_multiplier: σ; the noise has standard deviation σ·Δ a value. 0 for tests alone.
        max_grad_norm: C, bound on a unit's gradient over all parameters together.
    """

    noise_multiplier: float
    max_grad_norm: float

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier <= MAX_NOISE_MULTIPLIER:
            raise InvalidInput(f"the noise multiplier must lie between 0 and {MAX_NOISE_MULTIPLIER:g}")
        # Far from where γ = 2⁻²⁰·C or a square of C would leave the range of floats.
        if not 1e-30 <= self.max_grad_norm <= 1e30:
            raise InvalidInput("the clipping norm must lie between 1e-30 and 1e30")

    @property
    def clipping_norm(self) -> float:
        """C(1 - 2⁻¹²), to which each unit's gradient is really clipped."""
        return self.max_grad_norm * (1 - CLIPPING_SLACK)

    @property
    def grid(self) -> float:
        """γ = 2⁻²⁰·C; every released sum is a whole multiple of it."""
        return self.max_grad_norm * GRID_SHARE

    def sensitivity(self, values: int) -> float:
        """Return Δ = C + γ√d for a gradient of d values over all parameters together."""
        return self.max_grad_norm + self.grid * math.sqrt(values)

    def noise_std(self, values: int) -> float:
        """Return σ·Δ, the standard deviation of the noise on each of d values."""
        return self.noise_multiplier * self.sensitivity(values)


class KeystreamDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus has no types
    """Opacus' optimizer on the grid, with noise from a keystream, float64 sums, and no way in for NaN.

    Clipping is flat over all parameters, once for each unit: `begin` says which records are one, without it
    each is by itself. A record with a non-finite gradient counts as zero as a whole: otherwise one such
    record would show, by turning the sum into NaN. `step` is never used, the caller takes the gradients
    after `pre_step`.

    Args:
        optimizer: Of the parameters.
        mechanism: Clipping and noise.
        divisor: What the noisy sum is divided by, public.
        keystream: Source of the noise.
        factored: Those of the parameters whose ``grad_sample`` holds factors; see `record_gradients`.

    Raises:
        InvalidInput: From `pre_step`, if chunk or batch is larger than the error bound allows. Callers
            check the number of records beforehand, so that no batch size decides whether a run fails.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        mechanism: Mechanism,
        divisor: float,
        keystream: Keystream,
        factored: Iterable[Tensor] = (),
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.max_grad_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._mechanism = mechanism
        self._divisor = divisor
        self._keystream = keystream
        self._factored = {id(parameter) for parameter in factored}
        self._values = sum(parameter.numel() for parameter in self.params)
        self._records = 0
        self._units: UnitSums | None = None

    def begin(self, sizes: Tensor) -> None:
        """Say how many of the next step's records each unit has, (U,), in the order in which they come."""
        self._units = UnitSums(sizes)

    def no_records(self) -> None:
        """Stand in for the backward pass of an empty batch."""
        for one in self.params:
            shape = (sum(one.shape),) if id(one) in self._factored else one.shape
            one.grad_sample = one.new_zeros(0, *shape)

    def clip_and_accumulate(self) -> None:
        """Clip the gradient of each unit that is complete and add them to ``summed_grad`` (float64).

        Raises:
            InvalidInput: If chunk or batch is larger than the error bound allows.
        """
        gradients: Sequence[RecordGradients] = [
            record_gradients(rows, parameter, factored=id(parameter) in self._factored)
            for rows, parameter in zip(self.grad_samples, self.params, strict=True)
        ]
        norms = joint_norms(gradients)
        self._records += len(norms)
        if len(norms) > MAX_CHUNK_RECORDS or self._records > MAX_BATCH_RECORDS:
            raise InvalidInput(
                f"a batch holds at most {MAX_BATCH_RECORDS} records, {MAX_CHUNK_RECORDS} at once"
            )
        broken = ~norms.isfinite()
        gradients = [gradient.without(broken) for gradient in gradients]
        if self._units is None or self._units.single:
            norms = norms.masked_fill(broken, 0.0)
        if self._units is not None and self._units.single:
            self._units.take(len(norms))
        elif self._units is not None:
            sums = self._units.add([gradient.whole() for gradient in gradients])
            gradients = [WholeGradients(one) for one in sums]
            norms = joint_norms(gradients)
        limit = self._mechanism.clipping_norm
        factors = limit / norms.clamp(min=limit)
        for parameter, gradient in zip(self.params, gradients, strict=True):
            total = gradient.weighted_sum(factors).view_as(parameter)
            earlier = parameter.summed_grad
            parameter.summed_grad = total if earlier is None else earlier + total

    def add_noise(self) -> None:
        """Replace the sum S by γ·(s + z): noise and sum on the grid, float64."""
        if self._units is not None:
            self._units.finish()
        self._records, self._units = 0, None
        grid, std = self._mechanism.grid, self._mechanism.noise_std(self._values)
        for parameter in self.params:
            noise = gaussian(self._keystream, tuple(parameter.shape))
            drawn = torch.from_numpy(noise).mul_(std / grid).round_().to(torch.int64)  # z
            total = _on_grid(parameter.summed_grad, grid) + sent(drawn, parameter.device)
            parameter.summed_grad = total.double() * grid  # torch makes float32 of int64 times a number

    def scale_grad(self) -> None:
        """Write the noisy sum over the divisor, a public number, into ``grad``."""
        for parameter in self.params:
            parameter.grad = (parameter.summed_grad / self._divisor).to(parameter.dtype)


def _on_grid(values: Tensor, grid: float) -> Tensor:
    """Return s = rint(S/γ), int64; at most 2²²·2²⁰ in size, which float64 holds exactly."""
    return (values / grid).round().to(torch.int64)
