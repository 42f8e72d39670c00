import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.clip.text import PromptedText

NAMES = ("cat", "fire_truck", "sea anemone", "aircraft carrier ship", "x")


@pytest.fixture(scope="module")
def scaled(small_model_folder):
    """Layers that scale what they add, as some open_clip models have them."""
    return load_backbone(small_model_folder("scaled", ls_init_value=0.5), RANDOM)


@pytest.fixture(params=["tiny", "small", "small_custom", "scaled"])
def backbone(request):
    return request.getfixturevalue(request.param)


def results(text, contexts, cotangent):
    features = text.encode(contexts)
    (gradient,) = torch.autograd.grad(features, contexts, cotangent)
    return features, gradient


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=st.integers(2, 5),
    context_tokens=st.integers(1, 9),
    sets=st.integers(0, 3),
    size=st.sampled_from([0.01, 0.3, 2.0]),
    cut=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_plain_way_up_to_rounding(backbone, classes, context_tokens, sets, size, cut, seed):
    names, generator = NAMES[:classes], torch.Generator().manual_seed(seed)
    shared, plain = (
        PromptedText(backbone, names, context_tokens, False, cut_at_eot=cut, share_context=share)
        for share in (True, False)
    )
    assert (shared._share, plain._share) == (True, False)
    contexts = torch.randn(sets, context_tokens, backbone.text_width, generator=generator) * size
    contexts.requires_grad_()
    cotangent = torch.randn(sets, classes, backbone.feature_size, generator=generator)
    (found, gradient), (expected, expected_gradient) = (
        results(text, contexts, cotangent) for text in (shared, plain)
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    # Rounding of a gradient goes with the size of all of it.
    largest = float(expected_gradient.abs().sum(dim=0).max())
    assert (largest > 0) == (sets > 0)
    torch.testing.assert_close(gradient, expected_gradient, atol=5e-6 * largest, rtol=1e-5)


def test_what_stands_before_matters(small):
    """The comparison above could not fail if names did not see the context."""
    text = PromptedText(small, NAMES, 4, False)
    one, other = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    assert (text.encode(one[None]) - text.encode(other[None])).abs().max() > 1e-2


def test_contexts_of_their_own_and_a_single_class_share_nothing(small):
    assert not PromptedText(small, NAMES, 4, True)._share
    assert not PromptedText(small, NAMES[:1], 4, False)._share


def test_layers_of_another_kind_are_left_to_open_clip(small_model_folder):
    other = load_backbone(small_model_folder("other-block", custom_text=False, qk_norm=True), RANDOM)
    assert not other.text_tower.has_known_layers
    text = PromptedText(other, NAMES, 4, False)
    assert text.encode(torch.zeros(1, 4, other.text_width)).shape == (1, 5, other.feature_size)
