import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedapt_secure.config.key_use import KeyUse
from fedapt_secure.learning.methods.fedapt import FedAptModel, key_values, modulate, routing_weights


@pytest.fixture(params=[True, False], ids=["class-specific", "shared"])
def model(request, prompted):
    text = prompted(request.param)
    generator = torch.Generator().manual_seed(3)
    classes = (3,) if request.param else ()
    return FedAptModel(
        text=text,
        meta_prompt=torch.randn((*classes, 4, 64), generator=generator),
        adaptive_network=torch.randn(5, 64, generator=generator),
        keys=torch.rand(5, 4, 64, generator=generator),
    )


def test_modulation_is_by_the_formula():
    meta_prompt, key = torch.randn(3, 4, 8), torch.rand(4, 8)
    expected = torch.stack([context + context * key for context in meta_prompt])
    torch.testing.assert_close(modulate(meta_prompt, key), expected)
    keys = torch.rand(2, 4, 8)
    torch.testing.assert_close(modulate(meta_prompt, keys)[1], modulate(meta_prompt, keys[1]))
    torch.testing.assert_close(modulate(meta_prompt[0], keys)[1], meta_prompt[0] * (1 + keys[1]))


def test_routing_weights_are_by_the_formula():
    features, network = torch.randn(7, 16), torch.randn(4, 16)
    scores = features @ network.T
    standardised = (scores - scores.mean(1, keepdim=True)) / scores.std(1, unbiased=True, keepdim=True)
    for temperature in (0.01, 1.0):
        expected = (standardised / temperature).softmax(1)
        torch.testing.assert_close(routing_weights(features, network, temperature), expected)


def test_routing_without_evidence_is_uniform_and_one_key_takes_all():
    features = torch.randn(3, 8)
    torch.testing.assert_close(routing_weights(features, torch.zeros(4, 8)), torch.full((3, 4), 0.25))
    torch.testing.assert_close(routing_weights(features, torch.randn(1, 8)), torch.ones(3, 1))
    assert routing_weights(torch.empty(0, 8), torch.randn(4, 8)).shape == (0, 4)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
def test_routing_is_a_distribution_and_ignores_the_feature_length(seed, size, scale):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(5, 8, generator=generator)
    network = torch.randn(size, 8, generator=generator)
    weights = routing_weights(features, network, 0.5)
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    torch.testing.assert_close(routing_weights(features * scale, network, 0.5), weights, atol=1e-3, rtol=0)


def test_routed_predictions_are_the_plain_ones(model):
    clear = torch.randn(40, 64, generator=torch.Generator().manual_seed(4))
    # Halfway between two keys: these need a prompt of their own.
    first, second = (
        torch.linalg.pinv(model.adaptive_network)[:, 0],
        torch.linalg.pinv(model.adaptive_network)[:, 1],
    )
    torn = torch.stack([first + second * share for share in (1.0, 1.001, 0.999)])
    features = torch.cat([clear, torn])
    weights = routing_weights(features, model.adaptive_network)
    assert (weights.max(1).values[-3:] < 1 - 1e-6).all()
    assert (weights.max(1).values >= 1 - 1e-6).sum() > 30
    plain = model.predict_plain(features)
    assert plain.shape == (43, 3)
    torch.testing.assert_close(model.predict(features), plain, atol=1e-4, rtol=1e-4)
    assert torch.equal(model.predict(features).argmax(1), plain.argmax(1))


def test_the_routed_prompts_are_encoded_once(model, monkeypatch):
    encoded = []
    encode = type(model.text).encode

    def counting(text, contexts):
        encoded.append(len(contexts))
        return encode(text, contexts)

    monkeypatch.setattr(type(model.text), "encode", counting)
    features = torch.linalg.pinv(model.adaptive_network).T  # (5, D): each is one key's own
    first = model.predict(features)
    assert sum(encoded) == 5
    torch.testing.assert_close(model.predict(features), first)
    model.predict(features[:1])
    assert sum(encoded) == 5
    assert not model.routed_text.requires_grad


def test_the_chosen_key_decides(model):
    features = torch.randn(20, 64, generator=torch.Generator().manual_seed(5))
    chosen = model.routing(features)
    assert len(chosen.unique()) > 1
    contexts = modulate(model.meta_prompt, model.keys)
    text_features = model.text.encode(contexts)
    unit = torch.nn.functional.normalize(features, dim=-1)
    expected = torch.stack(
        [
            model.text.backbone.logit_scale * text_features[key] @ one
            for one, key in zip(unit, chosen, strict=True)
        ]
    )
    certain = routing_weights(features, model.adaptive_network).max(1).values >= 1 - 1e-6
    torch.testing.assert_close(model.predict(features)[certain], expected[certain], atol=1e-4, rtol=1e-4)


def test_no_sample_gives_no_prediction(model):
    assert model.predict(torch.empty(0, 64)).shape == (0, 3)
    assert model.predict_plain(torch.empty(0, 64)).shape == (0, 3)


def test_what_numbers_of_keys_stand_for():
    keys = torch.rand(200_000, generator=torch.Generator().manual_seed(1))
    assert key_values(keys) is keys
    torch.testing.assert_close(key_values(keys, "signed"), 2 * keys - 1)
    for values, std in (("normal", 1.0), ("contexts", 0.02)):
        found = key_values(keys, values)
        assert found.dtype == torch.float32
        assert bool(found.isfinite().all())
        assert abs(float(found.mean())) < 0.01 * std
        assert float(found.std()) == pytest.approx(std, rel=0.01)
        assert float((found.abs() < std).float().mean()) == pytest.approx(0.6827, abs=0.005)
    ends = torch.tensor([0.0, 1 - 2.0**-24])
    assert bool(key_values(ends, "normal").isfinite().all()), "the grid's ends are numbers too"


def test_keys_can_be_added():
    meta_prompt, key = torch.randn(3, 4, 8), torch.rand(4, 8)
    torch.testing.assert_close(modulate(meta_prompt, key, "add"), meta_prompt + key)
    torch.testing.assert_close(modulate(meta_prompt[0], key, "add"), meta_prompt[0] + key)


@pytest.mark.parametrize("use", [KeyUse("add"), KeyUse("multiply", "signed"), KeyUse("add", "normal")])
def test_routed_predictions_are_the_plain_ones_with_every_use_of_keys(model, use):
    other = dataclasses.replace(model, key_use=use)
    features = torch.randn(12, 64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(other.predict(features), other.predict_plain(features), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other.predict(features), model.predict(features))
    keys = key_values(model.keys, use.values)
    stated = dataclasses.replace(model, keys=keys, key_use=KeyUse(use.fusion))
    torch.testing.assert_close(other.predict(features), stated.predict(features))


def test_without_routing_all_keys_count_alike(model):
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(5))
    even = model.own_logits(features, torch.full((6, 5), 0.2))
    torch.testing.assert_close(model.predict_without_routing(features), even, atol=1e-4, rtol=1e-4)


def test_who_is_told_the_domain_uses_its_keys(model):
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(6))
    weights = torch.zeros(6, 5)
    weights[:, 3] = 1.0
    told = model.predict_knowing_domains(features, {3})
    torch.testing.assert_close(told, model.own_logits(features, weights), atol=1e-4, rtol=1e-4)
    everything = model.predict_knowing_domains(features, set(range(5)))
    torch.testing.assert_close(everything, model.predict(features))
