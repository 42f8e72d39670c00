"""Every kind of text tower: features and gradients are those of the unmodified model."""

import pytest
import torch
import torch.nn.functional as F

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.clip.loading import load
from fedapt_secure.learning.clip.prompt_tokens import PromptTokens
from fedapt_secure.learning.clip.text import PromptedText
from tests.learning.clip.unmodified import through_the_model
from tests.support.hub_models import KINDS, OWN_KINDS, make_model, make_tokenizer

NAMES = ("cat", "fire_truck", "sea anemone")
SPOKEN = ("cat", "fire truck", "sea anemone")
WORDS = "a photo of a"

CUTS = {"argmax", "argmax-custom", "eos", "no-projection", "bert", "roberta", "xlm-roberta", "mt5", "m2m_100"}
SHARES = {"argmax", "argmax-custom", "eos", "no-projection"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}

    def load(kind: str) -> Backbone:
        if kind not in made:
            made[kind] = load_backbone(make_model(tmp_path_factory.mktemp("model"), kind), RANDOM)
        return made[kind]

    return load


@pytest.fixture(params=KINDS)
def backbone(request, models):
    return models(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exact_is_known_of_each_kind(models, kind):
    tower = models(kind).text_tower
    assert tower.cuts == (kind in CUTS | {"coca-roberta"})
    assert tower.shares == (kind in SHARES)
    assert tower.has_known_layers == (kind in OWN_KINDS and kind != "coca")


def test_random_weights_are_the_same_each_time(backbone):
    again = Backbone(backbone.name, RANDOM, load(backbone.name, RANDOM, None), backbone.device)
    assert again.model_hash == backbone.model_hash


def test_features_are_those_of_the_model_itself(backbone):
    tokens = backbone.tokenize([f"{WORDS} {name}." for name in SPOKEN])
    expected = backbone._model.encode_text(tokens, normalize=False)
    tower = backbone.text_tower
    torch.testing.assert_close(tower.encode(tower.embed_tokens(tokens), tokens), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.encode_text(tokens), expected, atol=1e-6, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-4
    zero_shot = PromptedText(backbone, NAMES, 4).zero_shot(f"{WORDS} {{}}.")
    torch.testing.assert_close(zero_shot, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("class_specific", [True, False])
def test_words_as_context_give_the_prompt_that_has_them(backbone, class_specific):
    words = torch.tensor(initial_context(backbone, WORDS).embeddings(backbone.text_width))
    text = PromptedText(backbone, NAMES, len(words), class_specific)
    contexts = words.expand(1, len(NAMES), -1, -1) if class_specific else words[None]
    found = text.encode(contexts)[0]
    torch.testing.assert_close(found, text.zero_shot(f"{WORDS} {{}}."), atol=1e-5, rtol=0)


@pytest.mark.parametrize("class_specific", [True, False])
def test_gradients_are_those_of_autograd_through_the_unmodified_model(backbone, class_specific):
    count, generator = 5, torch.Generator().manual_seed(3)
    text = PromptedText(backbone, NAMES, count, class_specific)
    classes = (len(NAMES),) if class_specific else ()
    contexts = torch.randn(2, *classes, count, backbone.text_width, generator=generator).requires_grad_()
    cotangent = torch.randn(2, len(NAMES), backbone.feature_size, generator=generator)
    found = text.encode(contexts)
    (gradient,) = torch.autograd.grad(found, contexts, cotangent)
    expected = torch.stack([through_the_model(backbone, SPOKEN, one) for one in contexts])
    (expected_gradient,) = torch.autograd.grad(expected, contexts, cotangent)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    size = float(expected_gradient.abs().max())
    assert size > 1e-3
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5 * size, rtol=1e-4)


def test_cutting_and_sharing_change_nothing(backbone):
    contexts = torch.randn(2, 4, backbone.text_width, generator=torch.Generator().manual_seed(1))
    usual = PromptedText(backbone, NAMES, 4, False)
    plain = PromptedText(backbone, NAMES, 4, False, cut_at_eot=False, share_context=False)
    assert plain._tokens.shape[1] == backbone.context_length
    assert (usual._tokens.shape[1] < backbone.context_length) == backbone.text_tower.cuts
    torch.testing.assert_close(usual.encode(contexts), plain.encode(contexts), atol=1e-5, rtol=0)


def test_padding_that_is_seen_is_not_cut(models):
    """The comparison above could not fail if padding never mattered."""
    tower = models("last").text_tower
    tokens = models("last").tokenize(["a photo of a cat."])
    whole = tower.encode(tower.embed_tokens(tokens), tokens)
    cut = tower.encode(tower.embed_tokens(tokens[:, :-1]), tokens[:, :-1])
    assert (whole - cut).abs().max() > 1e-3


def test_images_have_one_vector_each(backbone):
    assert backbone.encode_images(torch.zeros(2, 3, 32, 32)).shape == (2, backbone.feature_size)


def test_a_bias_of_logits_is_kept(models):
    assert models("last").logit_bias == -10.0
    assert models("last").logit_scale == pytest.approx(9.974, abs=1e-3)
    assert models("argmax").logit_bias is None


@pytest.mark.parametrize(
    ("kind", "text_cfg", "message"),
    [
        ("last-causal", {"pool_type": "first"}, "every text has the same features"),
        ("last-causal", {"pool_type": "none"}, "an answer for each token"),
        ("argmax", {"embed_cls": True}, "class token that its kind of model does not use"),
    ],
)
def test_towers_whose_answer_no_prompt_reaches_are_refused(tmp_path, kind, text_cfg, message):
    with pytest.raises(InvalidInput, match=message):
        load_backbone(make_model(tmp_path, kind, **text_cfg), RANDOM)


def test_a_prompt_that_does_not_fit_is_refused_by_every_kind(backbone):
    # What fits is as long as the rows are, to the token.
    name, limit = "cat", backbone.context_length
    used = backbone.prompt_tokens.prompt("cat.", 1).used - 1
    PromptedText(backbone, [name], limit - used)
    with pytest.raises(InvalidInput, match=f"set context_tokens to {limit - used} or less") as caught:
        PromptedText(backbone, [name], limit - used + 1)
    assert caught.value.code == "plan_impossible"
    with pytest.raises(InvalidInput, match="or more of the"):
        PromptedText(backbone, [name, "number " * 60], 1)


class TestPromptTokens:
    """Where tokens stand, seen on rows that were written by hand."""

    @staticmethod
    def reading(rows):
        return PromptTokens(lambda texts: torch.tensor([rows[text] for text in texts]))

    def test_padding_that_ends_a_text(self):
        tokens = self.reading(
            {"": [1] * 6, "a": [7, 1, 1, 1, 1, 1], "x.": [9, 8, 1, 1, 1, 1], "a x.": [7, 9, 8, 1, 1, 1]}
        )
        assert tokens.start == 0
        assert tokens.words("x.") == (9, 8)
        assert tokens.prompt("x.", 3).tokens == (7, 7, 7, 9, 8, 1)
        assert [tokens.prompt("x.", count).used for count in (3, 4)] == [6, 7]

    def test_a_class_token_behind_the_padding(self):
        tokens = self.reading(
            {
                "": [2, 3, 0, 0, 0, 0, 5],
                "a": [2, 7, 3, 0, 0, 0, 5],
                "x": [2, 9, 3, 0, 0, 0, 5],
                "a x": [2, 7, 9, 3, 0, 0, 5],
            }
        )
        assert tokens.words("x") == (9,)
        assert tokens.prompt("x", 3).tokens == (2, 7, 7, 7, 9, 3, 5)
        assert [tokens.prompt("x", count).used for count in (3, 4)] == [7, 8]

    def test_a_word_that_is_read_together_with_the_name(self):
        tokens = self.reading(
            {"": [0] * 5, "a": [7, 0, 0, 0, 0], "x": [9, 0, 0, 0, 0], "a x": [8, 0, 0, 0, 0]}
        )
        assert tokens.prompt("x", 2).tokens == (7, 7, 9, 0, 0)

    def test_a_name_that_was_cut_is_known_as_such(self):
        tokens = self.reading(
            {"": [2, 3, 0, 0], "a": [2, 7, 3, 0], "x y z": [2, 9, 9, 3], "a x y z": [2, 7, 9, 3]}
        )
        assert tokens.prompt("x y z", 1).is_cut

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ({"": [0, 0, 3], "a": [0, 7, 3]}, "padding in front"),
            ({"": [2, 3, 0], "a": [2, 3, 0]}, "reads no words"),
        ],
    )
    def test_what_cannot_be_used_is_refused(self, rows, message):
        with pytest.raises(InvalidInput, match=message):
            self.reading(rows)


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram", "language", "sentence"])
def test_tokenizers_made_here_can_be_had_without_a_network(tmp_path, kind):
    assert make_tokenizer(tmp_path, kind) > 50
