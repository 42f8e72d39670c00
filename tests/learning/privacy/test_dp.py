import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.privacy.dp import TextFeatureGradient
from fedapt_secure.learning.privacy.mechanism import Mechanism


def sample_gradients(
    weights, network, class_feature, domain_feature, label, domain, temperature=1.0, share=1.0
):
    """One sample's gradient by plain autograd: the slow truth."""
    weights, network = weights.clone().requires_grad_(), network.clone().requires_grad_()
    loss = temperature * F.cross_entropy((weights @ class_feature)[None] / temperature, label[None])
    loss = loss + share * F.cross_entropy((network @ domain_feature)[None], torch.tensor([domain]))
    return torch.autograd.grad(loss, (weights, network))


def labelled(labels, domain):
    """Examples of which only the targets count here, their domain, and each as a unit of its own."""
    return Examples(torch.empty(len(labels), 0), labels), domain, Batch.of_images(torch.arange(len(labels)))


def clipped_sum_by_loop(weights, network, features, labels, domain, norm_bound, temperature=1.0, share=1.0):
    totals = [torch.zeros_like(weights).double(), torch.zeros_like(network).double()]
    for feature, label in zip(features, labels, strict=True):
        gradients = [
            one.double()
            for one in sample_gradients(weights, network, feature, feature, label, domain, temperature, share)
        ]
        norm = torch.cat([one.flatten() for one in gradients]).norm()
        if not torch.isfinite(norm):
            continue
        factor = min(1.0, norm_bound * (1 - 2**-12) / norm.item()) if norm > 0 else 1.0
        for total, gradient in zip(totals, gradients, strict=True):
            total.add_(factor * gradient)
    return totals[0], totals[1] / share


@st.composite
def problems(draw):
    classes, domains, size = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    count = draw(st.integers(0, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    features = torch.randn(count, size, generator=generator) * draw(st.sampled_from([0.01, 1.0, 30.0]))
    if count and draw(st.booleans()):
        broken = draw(st.integers(0, count - 1))
        features[broken, draw(st.integers(0, size - 1))] = draw(
            st.sampled_from([float("nan"), float("inf"), -float("inf")])
        )
    return {
        "weights": torch.randn(classes, size, generator=generator),
        "network": torch.randn(domains, size, generator=generator),
        "features": features,
        "labels": torch.randint(classes, (count,), generator=generator),
        "domain": draw(st.integers(0, domains - 1)),
        "norm_bound": draw(st.sampled_from([0.1, 1.0, 10.0])),
        "chunk": draw(st.integers(1, 10)),
        "temperature": draw(st.sampled_from([1.0, 0.5, 4.0])),
        "share": draw(st.sampled_from([1.0, 0.3, 2.0])),
    }


@settings(deadline=None, max_examples=60)
@given(problem=problems())
def test_the_clipped_sum_is_that_of_a_loop_over_samples(problem):
    classes, size = problem["weights"].shape
    domains = len(problem["network"])
    gradient = TextFeatureGradient(
        classes=classes,
        domains=domains,
        feature_size=size,
        divisor=2.5,
        mechanism=Mechanism(noise_multiplier=0.0, max_grad_norm=problem["norm_bound"]),
        chunk_bytes=problem["chunk"] * 20 * (classes + domains + 2 * size),
        loss_temperature=problem["temperature"],
        domain_weight=problem["share"],
    )
    arguments = (problem["features"], problem["labels"], problem["domain"])
    expected = clipped_sum_by_loop(
        problem["weights"],
        problem["network"],
        *arguments,
        problem["norm_bound"],
        problem["temperature"],
        problem["share"],
    )
    for _ in range(2):  # a second step starts from nothing
        features, labels, domain = arguments
        rows = (features, features, *labelled(labels, domain))
        found = gradient(problem["weights"], problem["network"], *rows)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(
                one, (other / 2.5).float(), atol=7e-6 * problem["norm_bound"], rtol=1e-4
            )


def test_no_sample_moves_the_sum_by_more_than_the_clipping_norm():
    generator = torch.Generator().manual_seed(0)
    gradient = TextFeatureGradient(
        classes=4, domains=3, feature_size=5, divisor=1.0, mechanism=Mechanism(0.0, 0.7)
    )
    features = torch.randn(6, 5, generator=generator) * 100
    labels = torch.randint(4, (6,), generator=generator)
    weights, network = torch.randn(4, 5, generator=generator), torch.randn(3, 5, generator=generator)
    whole = torch.cat(
        [one.flatten() for one in gradient(weights, network, features, features, *labelled(labels, 1))]
    )
    for index in range(6):
        others = [other for other in range(6) if other != index]
        part = gradient(
            weights,
            network,
            features[others],
            features[others],
            *labelled(labels[others], 1),
        )
        moved = whole - torch.cat([one.flatten() for one in part])
        assert moved.norm() <= 0.7 * (1 + 1e-5)


def noisy(count: int, keystream=None, sigma: float = 3.0):
    generator = torch.Generator().manual_seed(1)
    gradient = TextFeatureGradient(
        classes=40,
        domains=10,
        feature_size=64,
        divisor=20.0,
        mechanism=Mechanism(sigma, 0.5),
        keystream=keystream,
        chunk_bytes=20 * (50 + 2 * 64) * 2,
    )
    features = F.normalize(torch.randn(count, 64, generator=generator), dim=-1)
    labels = torch.randint(40, (count,), generator=generator)
    weights, network = torch.randn(40, 64, generator=generator), torch.randn(10, 64, generator=generator)
    return lambda: torch.cat(
        [one.flatten() for one in gradient(weights, network, features, features, *labelled(labels, 0))]
    )


@pytest.mark.parametrize("count", [0, 1, 5])
def test_noise_has_the_right_size_also_on_an_empty_batch(count):
    noise = noisy(count)() - noisy(count, sigma=0.0)()
    expected = 3.0 * 0.5 / 20.0  # once a step, however many chunks
    assert abs(noise.std() / expected - 1) < 5 / (2 * len(noise)) ** 0.5
    assert abs(noise.mean()) < 5 * expected / len(noise) ** 0.5
    assert abs(noise[: 40 * 64].std() / noise[40 * 64 :].std() - 1) < 0.2


def test_noise_differs_between_steps_and_does_not_come_from_torch():
    step = noisy(5)
    torch.manual_seed(0)
    first = step()
    torch.manual_seed(0)
    second = step()
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert not torch.equal(noisy(5)(), first)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    noisy(5)()
    assert torch.equal(torch.rand(3), expected)


def test_a_keystream_makes_the_noise_repeatable():
    assert torch.equal(noisy(5, Keystream(bytes(32)))(), noisy(5, Keystream(bytes(32)))())


def test_the_noise_on_the_adaptive_network_is_divided_like_its_gradient():
    """λ spends less of the clipping norm on routing; what that costs is noise there, and none elsewhere."""

    def noise(share):
        steps = [
            TextFeatureGradient(
                classes=40,
                domains=10,
                feature_size=64,
                divisor=20.0,
                mechanism=Mechanism(sigma, 0.5),
                keystream=Keystream(bytes(32)),
                domain_weight=share,
            )
            for sigma in (3.0, 0.0)
        ]
        nothing = torch.zeros(0, 64)
        rows = (nothing, nothing, *labelled(torch.zeros(0, dtype=torch.int64), 0))
        first, second = (step(torch.zeros(40, 64), torch.zeros(10, 64), *rows) for step in steps)
        return [one - other for one, other in zip(first, second, strict=True)]

    plain, weighted = noise(1.0), noise(0.25)
    assert torch.equal(plain[0], weighted[0])
    torch.testing.assert_close(weighted[1], 4 * plain[1])


def test_without_a_mechanism_the_weight_of_routing_changes_nothing():
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    sizes = {"classes": 4, "domains": 3, "feature_size": 64, "divisor": 2.0, "mechanism": None}
    rows = (features, features, *labelled(torch.tensor([0, 1, 2, 3, 0, 1]), 1))
    plain, weighted = (
        TextFeatureGradient(**sizes, domain_weight=share)(torch.ones(4, 64), torch.ones(3, 64), *rows)
        for share in (1.0, 0.3)
    )
    for one, other in zip(plain, weighted, strict=True):
        assert torch.equal(one, other)


def test_without_a_mechanism_it_is_the_plain_gradient():
    generator = torch.Generator().manual_seed(2)
    class_features = torch.randn(7, 6, generator=generator)
    domain_features = torch.randn(7, 6, generator=generator) * 9
    labels = torch.randint(3, (7,), generator=generator)
    weights, network = torch.randn(3, 6, generator=generator), torch.randn(2, 6, generator=generator)
    gradient = TextFeatureGradient(
        classes=3, domains=2, feature_size=6, divisor=4.0, mechanism=None, chunk_bytes=20 * (5 + 2 * 6) * 3
    )
    expected = [torch.zeros(3, 6), torch.zeros(2, 6)]
    for sample in zip(class_features, domain_features, labels, strict=True):
        for total, one in zip(expected, sample_gradients(weights, network, *sample, 1), strict=True):
            total.add_(one / 4.0)
    for _ in range(2):
        found = gradient(weights, network, class_features, domain_features, *labelled(labels, 1))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_without_a_mechanism_an_empty_batch_gives_zero():
    gradient = TextFeatureGradient(classes=3, domains=2, feature_size=6, divisor=4.0, mechanism=None)
    empty = torch.empty(0, 6)
    found = gradient(
        torch.randn(3, 6), torch.randn(2, 6), empty, empty, *labelled(torch.empty(0, dtype=torch.int64), 1)
    )
    assert [one.abs().sum().item() for one in found] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("sigma", "norm"), [(-1.0, 1.0), (np.nan, 1.0), (2e6, 1.0), (1.0, 0.0), (1.0, np.inf), (1.0, 1e-40)]
)
def test_impossible_mechanisms_are_refused(sigma, norm):
    with pytest.raises(InvalidInput):
        Mechanism(sigma, norm)
