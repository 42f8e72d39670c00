import pytest
import torch
import torch.nn.functional as F

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.templates import zero_shot_templates
from fedapt_secure.learning.clip.text import PromptedText


@pytest.fixture(params=["tiny", "small", "small_custom"])
def backbone(request):
    return request.getfixturevalue(request.param)


def contexts_for(text, sets=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = (len(text.class_names),) if text.class_specific else ()
    shape = (sets, *classes, text.context_tokens, text.backbone.text_width)
    return (torch.randn(shape, generator=generator) * 0.5).requires_grad_()


@pytest.mark.parametrize("class_specific", [True, False])
def test_cutting_at_the_end_of_text_changes_nothing(prompted, backbone, class_specific):
    cut = prompted(class_specific, backbone)
    whole = prompted(class_specific, backbone, cut_at_eot=False)
    assert cut._name.shape[1] < whole._name.shape[1]
    contexts = contexts_for(cut)
    cotangent = torch.randn(2, 3, backbone.feature_size, generator=torch.Generator().manual_seed(1))
    results = []
    for text in (cut, whole):
        features = text.encode(contexts)
        (gradient,) = torch.autograd.grad(features, contexts, cotangent)
        results.append((features, gradient))
    (features, gradient), (expected_features, expected_gradient) = results
    torch.testing.assert_close(features, expected_features, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-4)
    assert gradient.abs().max() > 1e-3


def test_embedded_words_as_context_give_the_hand_written_prompt(backbone):
    names = ("cat", "fire_truck")
    text = PromptedText(backbone, names, context_tokens=4)
    words = backbone.tokenize(["a photo of a"])[:, 1:5]
    contexts = backbone.text_tower.embed_tokens(words).expand(1, 2, 4, -1)
    expected = text.zero_shot("a photo of a {}.")
    torch.testing.assert_close(text.encode(contexts)[0], expected, atol=1e-5, rtol=0)
    reference = backbone.encode_text(backbone.tokenize(["a photo of a cat.", "a photo of a fire truck."]))
    torch.testing.assert_close(expected, F.normalize(reference, dim=-1), atol=1e-6, rtol=0)


def test_a_shared_context_is_the_same_one_for_each_class(prompted):
    shared, specific = prompted(False), prompted(True)
    context = contexts_for(shared)
    expected = specific.encode(context.unsqueeze(1).expand(-1, 3, -1, -1))
    torch.testing.assert_close(shared.encode(context), expected, atol=1e-6, rtol=0)
    assert torch.allclose(expected.norm(dim=-1), torch.ones(2, 3), atol=1e-5)


def test_sets_of_prompts_do_not_touch_each_other(prompted):
    text = prompted()
    contexts = contexts_for(text, sets=3)
    together = text.encode(contexts)
    for index in range(3):
        torch.testing.assert_close(
            together[index], text.encode(contexts[index : index + 1])[0], atol=1e-6, rtol=0
        )


def test_a_prompt_that_does_not_fit_names_the_class(tiny):
    PromptedText(tiny, ["cat"], context_tokens=28)  # start, 28, "cat", ".", end: 32
    with pytest.raises(
        InvalidInput, match="class 'cat' takes 4 of the 32 tokens .* set context_tokens to 28"
    ):
        PromptedText(tiny, ["cat"], context_tokens=29)
    with pytest.raises(InvalidInput, match="takes 32 or more of the 32 .* name of at most 31 tokens"):
        PromptedText(tiny, ["cat", "long " * 50], context_tokens=1)


@pytest.mark.parametrize("names", [[], ["cat", ""], ["cat", "_"], ["cat", "cat"]])
def test_unusable_class_names_are_refused(tiny, names):
    with pytest.raises(InvalidInput):
        PromptedText(tiny, names, context_tokens=4)


def test_no_context_and_bad_templates_are_refused(tiny, prompted):
    with pytest.raises(InvalidInput, match="at least one context token"):
        PromptedText(tiny, ["cat"], context_tokens=0)
    with pytest.raises(InvalidInput, match=r"one \{\} for the class name"):
        prompted().zero_shot("a photo")


def test_names_that_would_be_spoken_alike_are_said_as_written(tiny):
    text = PromptedText(tiny, ["fire_truck", "fire truck"], context_tokens=4)
    features = text.zero_shot("a photo of a {}")
    assert not torch.allclose(features[0], features[1], atol=1e-3)


def test_names_that_the_model_reads_alike_are_refused(tiny):
    with pytest.raises(InvalidInput, match="reads the classes 'red  cat' and 'red cat' as the same words"):
        PromptedText(tiny, ["dog", "red  cat", "red cat"], context_tokens=4)
    with pytest.raises(InvalidInput, match="'Cat' and 'cat' are one class"):
        PromptedText(tiny, ["dog", "Cat", "cat"], context_tokens=4)


def test_several_prompts_are_averaged(tiny, prompted):
    text = prompted()
    one, other = "a photo of a {}.", "art of the {}."
    mean = (text.zero_shot(one) + text.zero_shot(other)) / 2
    expected = F.normalize(mean, dim=-1)
    torch.testing.assert_close(text.zero_shot([one, other]), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(expected, text.zero_shot(one), atol=1e-3)
    with pytest.raises(InvalidInput, match="at least one"):
        text.zero_shot([])


def test_the_usual_ensembles_have_names(prompted):
    seven, eighty = zero_shot_templates("imagenet-7"), zero_shot_templates("imagenet")
    assert (len(set(seven)), len(set(eighty))) == (7, 80)
    assert set(seven) < set(eighty)
    assert all(one.count("{}") == 1 for one in eighty)
    assert "itap of a {}." in seven
    text = prompted()
    torch.testing.assert_close(text.zero_shot("imagenet-7"), text.zero_shot(seven), atol=1e-6, rtol=0)
