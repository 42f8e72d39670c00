"""The gate's short privacy test: it passes on the real trainer, and fails on one that is a little wrong."""

import math

import numpy as np
import pytest
import torch

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches import sampling
from fedapt_secure.learning.methods import base
from fedapt_secure.learning.privacy import mechanism
from fedapt_secure.learning.privacy.mechanism import Mechanism
from fedapt_secure.privacy.unit import IMAGE, PERSON
from fedapt_secure.privacy_test.mechanism_check import FALSE_ALARM, Finding, check_mechanism

NOISE, REPEATED = "noise, standard deviation", "noise of one round and the next"
MOST, SHARE, SPREAD = "times a record counts in a batch, most", "share of records", "records drawn in a round"
AGAIN, MOVES = "drawn in one round and the next", "what a record drawn moves"


def failed(unit=IMAGE) -> list[str]:
    return [one.name for one in check_mechanism(unit, lambda done, total: None) if not one.passed]


@pytest.mark.parametrize("unit", [IMAGE, PERSON])
def test_the_real_trainer_passes(unit):
    """A right program fails here in one of 10⁶ runs: exact tails, fresh randomness each time."""
    findings = check_mechanism(unit, lambda done, total: None)
    assert [one for one in findings if not one.passed] == []
    assert len(findings) * FALSE_ALARM <= 1.3e-6


def noise_of(share, monkeypatch):
    real = Mechanism.noise_std
    monkeypatch.setattr(Mechanism, "noise_std", lambda self, values: share * real(self, values))


def clipped_to(share, monkeypatch):
    real = Mechanism.clipping_norm.fget
    monkeypatch.setattr(Mechanism, "clipping_norm", property(lambda self: share * real(self)))


def drawn_by(draw, monkeypatch):
    """Replace who is drawn: ``draw`` is given the real function and its arguments."""
    real = sampling.poisson_batch
    monkeypatch.setattr(sampling, "poisson_batch", lambda *arguments: draw(real, *arguments))


def some_twice(real, keystream, count, rate):
    chosen = real(keystream, count, rate)
    return torch.cat([chosen, chosen[real(keystream, len(chosen), 0.01)]]).sort().values


def always_as_many(real, keystream, count, rate):
    words = keystream.uniform_words(count)
    return torch.from_numpy(np.sort(np.argsort(words)[: round(rate * count)]))


def the_same_again(real, keystream, count, rate):
    return real(Keystream(bytes(32)), count, rate)


def a_fifth_together(real, keystream, count, rate):
    """Every fifth record is drawn as often as promised, but all of them at once."""
    chosen = real(keystream, count, rate)
    fixed = torch.arange(0, count, 5)
    others = chosen[chosen % 5 != 0]
    return torch.cat([others, fixed]).sort().values if int(chosen.sum()) % 2 else others


MUTATIONS = {
    "noise 5 % too small": (lambda patch: noise_of(0.95, patch), {NOISE}),
    "noise 5 % too large": (lambda patch: noise_of(1.05, patch), {NOISE}),
    "clipping 5 % too lax": (lambda patch: clipped_to(1.05, patch), {MOVES}),
    "clipping 5 % too strict": (lambda patch: clipped_to(0.95, patch), {MOVES}),
    "one in a hundred drawn twice": (lambda patch: drawn_by(some_twice, patch), {MOST}),
    "sampled at 1.1 q": (lambda patch: drawn_by(lambda real, k, n, q: real(k, n, 1.1 * q), patch), {SHARE}),
    "batches of one size": (lambda patch: drawn_by(always_as_many, patch), {SPREAD}),
    "always the same batch": (lambda patch: drawn_by(the_same_again, patch), {AGAIN}),
    "a fifth drawn together": (lambda patch: drawn_by(a_fifth_together, patch), {SPREAD}),
}


# Each is found in all but one of 10⁹ runs or fewer: the least clear is noise that is off by 5 %, six standard
# errors beyond where the check begins to fail.
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_trainer_fails(name, monkeypatch):
    mutate, expected = MUTATIONS[name]
    mutate(monkeypatch)
    found = failed()
    assert all(any(one.startswith(start) for one in found) for start in expected), found


@pytest.mark.parametrize("share", [0.95, 1.05])
def test_normal_values_that_are_off_fail(share, monkeypatch):
    """The sampler of the noise itself, and not the figure that it is multiplied by."""
    real = mechanism.gaussian
    monkeypatch.setattr(mechanism, "gaussian", lambda *arguments: share * real(*arguments))
    assert any(one.startswith(NOISE) for one in failed())


def test_noise_from_one_key_each_round_fails(monkeypatch):
    real = mechanism.gaussian
    monkeypatch.setattr(mechanism, "gaussian", lambda _, shape: real(Keystream(bytes(32)), shape))
    assert any(one.startswith(REPEATED) for one in failed())


def test_persons_clipped_image_by_image_fail(monkeypatch):
    monkeypatch.setattr(base, "unit_of", lambda *, has_subjects, private: IMAGE)
    assert any(one.startswith(MOST) for one in failed(PERSON))


def test_persons_with_noise_that_is_5_percent_too_small_fail(monkeypatch):
    noise_of(0.95, monkeypatch)
    assert any(one.startswith(NOISE) for one in failed(PERSON))


def test_what_is_no_number_fails():
    assert not Finding("x", math.nan, 0, 1).passed
