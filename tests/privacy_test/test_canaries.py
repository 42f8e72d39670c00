"""Canaries are what the game takes them for: at right angles, of norm 1, each seen as if it were alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedapt_secure.privacy.unit import IMAGE, PERSON
from fedapt_secure.privacy_test.canaries import Canaries
from fedapt_secure.privacy_test.institution import Institution, Training

SIZE = 8


def gradients(canaries: Canaries, logit_scale: float) -> np.ndarray:
    """Return each canary's gradient by autograd, (K, M·D): the slow way, one record at a time."""
    features, labels, owners = canaries.records(np.ones(canaries.count, bool), 1)
    assert owners == list(range(canaries.count))
    found = []
    for feature, label in zip(torch.from_numpy(features), torch.from_numpy(labels), strict=True):
        weights = torch.from_numpy(canaries.parameters(logit_scale)).view(-1, SIZE).clone()
        scaled = (logit_scale * weights).requires_grad_()
        F.cross_entropy((scaled @ feature)[None], label[None]).backward()
        found.append(scaled.grad.flatten().numpy())
    return np.array(found, np.float64)


@pytest.mark.parametrize("count", [1, 8, 9, 40, 61])
def test_gradients_are_orthonormal(count):
    found = gradients(Canaries(count, SIZE), 21.4)
    assert np.abs(found @ found.T - np.eye(count)).max() < 1e-6


@pytest.mark.parametrize("count", [1, 9, 61])
def test_what_is_read_along_a_canary_is_its_own_gradient_alone(count):
    canaries = Canaries(count, SIZE)
    found = gradients(canaries, 21.4)
    weights = np.random.default_rng(0).normal(size=count)
    released = (weights @ found).reshape(canaries.classes, SIZE)
    assert np.allclose(canaries.along(released), weights, atol=1e-6)
    assert np.abs(canaries.beside(released)).max() < 1e-6
    assert np.allclose(canaries.beside(np.ones((canaries.classes, SIZE))), np.sqrt(canaries.classes))


@pytest.mark.parametrize("unit", [IMAGE, PERSON])
def test_the_real_trainer_shows_each_canary_that_is_there_once_and_nothing_else(unit):
    canaries = Canaries(150, 64)
    there = np.arange(150) % 3 > 0
    institution = Institution(canaries, there, Training(1e-3, 1.0, unit))
    seen = canaries.along(institution.round())
    assert np.allclose(seen, there, atol=0.01)


def test_each_round_begins_with_the_same_parameters():
    canaries = Canaries(70, 64)
    institution = Institution(canaries, np.ones(70, bool), Training(1e-3, 1.0, IMAGE))
    assert np.allclose(institution.round(), institution.round(), atol=0.01)
