"""The short version: noise, clipping and sampling of the real trainer, each by itself, in seconds.

With hardly any noise (σ = 0.05) a round shows of every canary how often it was drawn, and how far it moved
the sum; where no canary is, there is noise alone. What is expected is worked out here from what is promised,
and read from nothing that is checked. A right program fails one of the checks with probability `FALSE_ALARM`
at most; what each wrong one is found with stands in docs/privacy-test.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from scipy import stats

from fedapt_secure.privacy.unit import PrivacyUnit
from fedapt_secure.privacy_test.canaries import Canaries, Flags, Numbers
from fedapt_secure.privacy_test.institution import Institution, Training, feature_size

FALSE_ALARM: Final = 1e-7
"""Probability that a right program fails one check of one session."""
ROUNDS: Final = 100
_CANARIES: Final = 512
_SAMPLE_RATE: Final = 0.5
_CLEAR_NOISE: Final = 0.05  # ten standard deviations from being drawn to not being drawn
_USUAL_NOISE: Final = 2.0
_SLACK: Final = 2.0**-12  # C(1 - 2⁻¹²) is what is clipped to, docs/decisions/0004-noise-on-a-grid.md
_GRID: Final = 2.0**-20  # γ/C


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        name: Of what.
        seen: What was seen.
        lowest, highest: Between what it lies but for `FALSE_ALARM`.
    """

    name: str
    seen: float
    lowest: float
    highest: float

    @property
    def passed(self) -> bool:
        """Whether it lies between."""
        return self.lowest <= self.seen <= self.highest


@dataclass(frozen=True)
class Watched:
    """What some rounds showed, in units of C.

    Attributes:
        noise_multiplier: σ.
        values: d, values of a gradient.
        present: Along each canary that is there, (T, K').
        nothing: Where no record moves anything, (T, E).
    """

    noise_multiplier: float
    values: int
    present: Numbers
    nothing: Numbers


def check_mechanism(unit: PrivacyUnit, progress: Callable[[int, int], None]) -> tuple[Finding, ...]:
    """Train twice, with hardly any noise and with a usual one, and return all findings.

    Args:
        unit: What a canary is.
        progress: Told (rounds trained, rounds in all).
    """
    canaries = Canaries(_CANARIES, feature_size())
    there = np.random.default_rng().random(_CANARIES) < 0.5
    found: list[Finding] = []
    for number, noise in enumerate((_CLEAR_NOISE, _USUAL_NOISE)):
        training = Training(noise, _SAMPLE_RATE, unit)
        before = number * ROUNDS
        watched = _watch(canaries, there, training, partial(_told, progress, before))
        found += noise_findings(watched)
        if noise == _CLEAR_NOISE:
            found += record_findings(watched)
    return tuple(found)


def _told(progress: Callable[[int, int], None], before: int, done: int) -> None:
    progress(before + done, 2 * ROUNDS)


def _watch(canaries: Canaries, there: Flags, training: Training, progress: Callable[[int], None]) -> Watched:
    institution = Institution(canaries, there, training)
    present, nothing = [], []
    for done in range(ROUNDS):
        released = institution.round()
        along = canaries.along(released)
        present.append(along[there])
        nothing.append(np.concatenate([along[~there], canaries.beside(released)]))
        progress(done + 1)
    return Watched(training.noise_multiplier, canaries.values, np.array(present), np.array(nothing))


def noise_findings(watched: Watched) -> list[Finding]:
    """Return whether what is no record's is noise of the promised size, fresh in every round and value."""
    sigma, nothing = watched.noise_multiplier, watched.nothing
    at = f"sigma {sigma:g}"
    count = nothing.size
    most = sigma * (1 + _GRID * math.sqrt(watched.values))
    return [
        Finding(
            f"noise, standard deviation over sigma C ({at})",
            math.sqrt(float((nothing**2).mean())) / sigma,
            math.sqrt(float(stats.chi2.ppf(FALSE_ALARM / 2, count)) / count),
            math.sqrt(float(stats.chi2.isf(FALSE_ALARM / 2, count)) / count) * most / sigma,
        ),
        _correlation(f"noise of one round and the next, correlation ({at})", nothing[:-1], nothing[1:]),
        _correlation(f"noise of one value and the next, correlation ({at})", nothing[:, :-1], nothing[:, 1:]),
    ]


def record_findings(watched: Watched) -> list[Finding]:
    """Return whether records are drawn as promised, and move the sum by C at most.

    Args:
        watched: With so little noise that each round shows how often a record was drawn.
    """
    present, rate = watched.present, _SAMPLE_RATE
    drawn = np.rint(present) + 0.0  # no -0
    once = present[drawn == 1]
    count, taken = drawn.size, drawn.clip(max=1)
    totals = taken.sum(axis=1)
    spread = float(((totals - present.shape[1] * rate) ** 2).sum()) / (present.shape[1] * rate * (1 - rate))
    reach = float(stats.norm.isf(FALSE_ALARM / 2)) * watched.noise_multiplier / math.sqrt(max(1, once.size))
    return [
        Finding("times a record counts in a batch, most", float(drawn.max()), 1, 1),
        Finding("times a record counts in a batch, least", float(drawn.min()), 0, 0),
        Finding(
            "share of records drawn",
            float(taken.mean()),
            float(stats.binom.ppf(FALSE_ALARM / 2, count, rate)) / count,
            float(stats.binom.isf(FALSE_ALARM / 2, count, rate)) / count,
        ),
        Finding(
            "records drawn in a round, variance over Poisson sampling's",
            spread / len(totals),
            float(stats.chi2.ppf(FALSE_ALARM / 2, len(totals))) / len(totals),
            float(stats.chi2.isf(FALSE_ALARM / 2, len(totals))) / len(totals),
        ),
        _correlation("drawn in one round and the next, correlation", taken[:-1] - rate, taken[1:] - rate),
        Finding(
            "what a record drawn moves the sum by, over C",
            float(once.mean()) if once.size else 0.0,
            1 - 2 * _SLACK - reach,
            1 + reach,
        ),
    ]


def _correlation(name: str, one: Numbers, other: Numbers) -> Finding:
    """Return the correlation of pairs that are promised to be independent, of mean 0."""
    size = math.sqrt(float((one**2).sum()) * float((other**2).sum()))
    reach = float(stats.norm.isf(FALSE_ALARM / 2)) / math.sqrt(one.size)
    return Finding(name, float((one * other).sum()) / size if size else 0.0, -reach, reach)
