"""The prior weight: how much of the untuned CLIP a private model keeps, from public figures alone.

Training adds up noisy gradients, so that what is tuned is t = p + s + z: p what the untuned CLIP says, s the
signal, z noise of mean 0 and known size. Of all mixtures (1 - w)·t + w·p the one nearest to p + s has

    w = E‖z‖² / (E‖z‖² + ‖s‖²),

for E‖(1 - w)(s + z) - s‖² = w²‖s‖² + (1 - w)²E‖z‖². E‖z‖² is known. ‖s‖² is not, and must not be looked at;
but it has a bound, of which it reaches about the share κ.

Institution i takes Tᵢ noisy steps with standard deviation σᵢC on each of D values of a class, divided by qN̂ᵢ,
and a round's updates are averaged over n institutions. In units of the step size that is an expected square

    E‖z‖² = D·C²·Σᵢ Tᵢσᵢ² / (n q N̂ᵢ)²    against    ‖s‖² ≤ (κ·T·C / M)²

for each class: T steps of all, to which records of length at most C contribute, each of one of M classes.
Learning rate, schedule and C fall out of the quotient. Under Gaussian differential privacy with parameter
μ = q√T/σ (Dong, Roth and Su 2022, "Gaussian Differential Privacy", section 5; exact for q = 1, a limit below)
and equal institutions it is D·M² / (κ²·n·(μN̂)²): only privacy, records, institutions and classes are left.

κ was found by a search on the embedded digits (docs/tuning.md). A bad value costs accuracy, never privacy.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fedapt_crypto.errors import InvalidInput

REACHED_SHARE: Final = 0.65
"""κ: the share of its bound that the signal reaches."""
_DIGITS: Final = 3
"""A weight has so many decimals: all who compute it, on whatever machine, have the same."""
_LARGEST_MU: Final = 1e3
_HALVINGS: Final = 200


@dataclass(frozen=True)
class Contribution:
    """What one institution adds, as far as noise is concerned.

    Attributes:
        steps: Tᵢ: how many steps it takes in all.
        mu: μ of these together, as Gaussian differential privacy has it.
        declared_records: N̂ᵢ.
    """

    steps: int
    mu: float
    declared_records: int

    @classmethod
    def of_noise(cls, sigma: float, sample_rate: float, steps: int, declared: int) -> "Contribution":
        """Return that of an institution whose σ, q, steps and N̂ are known."""
        return cls(steps, sample_rate * math.sqrt(steps) / sigma, declared)

    @classmethod
    def of_budget(cls, epsilon: float, delta: float, steps: int, declared: int) -> "Contribution":
        """Return that of an institution of which a budget and a count are expected.

        Args:
            epsilon: ε.
            delta: δ.
            steps: T: how many steps it takes in all.
            declared: N̂.
        """
        return cls(steps, gaussian_mu(epsilon, delta), declared)

    @property
    def variance(self) -> float:
        """Tᵢσᵢ² / (q N̂ᵢ)²: noise of its steps on one value, in units of the clipping norm."""
        return (self.steps / (self.mu * self.declared_records)) ** 2


def prior_weight(
    contributions: Iterable[Contribution], *, participants: int, steps: int, noisy_values: float
) -> float:
    """Return w.

    Args:
        contributions: Of every institution of the session.
        participants: n: how many institutions' updates are averaged in a round.
        steps: T: rounds times local steps.
        noisy_values: D·M² where noise is on M classes' text features, the number of values where it is on all
            the parameters; see `MethodFacts.noisy_values`.

    Returns:
        A weight in [0, 1], rounded to three decimals.
    """
    return weight_of(
        noise_quotient(contributions, participants=participants, steps=steps, noisy_values=noisy_values)
    )


def noise_quotient(
    contributions: Iterable[Contribution], *, participants: int, steps: int, noisy_values: float
) -> float:
    """Return E‖z‖² over the largest ‖s‖² that is assumed, not rounded.

    Args:
        contributions: As `prior_weight` takes them.
        participants: n.
        steps: T.
        noisy_values: As there.
    """
    noise = sum(one.variance for one in contributions) / participants**2
    return noisy_values * noise / (REACHED_SHARE * steps) ** 2


def weight_of(quotient: float) -> float:
    """Return the weight that follows from `noise_quotient`."""
    return round(quotient / (1 + quotient), _DIGITS) if math.isfinite(quotient) else 1.0


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the largest μ whose Gaussian mechanism is (ε, δ) private (Dong et al. 2022, corollary 2.13).

    Args:
        epsilon: ε, above 0.
        delta: δ, in (0, 1).

    Raises:
        InvalidInput: If one of them is out of range.
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise InvalidInput("a budget needs a positive epsilon and a delta between 0 and 1")
    low, high = 0.0, _LARGEST_MU
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta_of(middle, epsilon) <= delta else (low, middle)
    return low or high


def _delta_of(mu: float, epsilon: float) -> float:
    upper, lower = -epsilon / mu + mu / 2, -epsilon / mu - mu / 2
    # e^ε·Φ(lower) as one exponential: e^ε alone would leave the range of floats.
    tail = _normal(lower)
    return _normal(upper) - (math.exp(epsilon + math.log(tail)) if tail > 0 else 0.0)


def _normal(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2
