import copy

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.clip.image_tower import image_tower_of, reads_class_token
from fedapt_secure.learning.clip.layers import are_known, is_known
from fedapt_secure.learning.clip.text_tower import text_tower_of

WIDTH, LAYERS = 32, 3
EXAMPLE = torch.tensor([[1, 5, 2, 0]])


def clip(*, custom_text=False, text=None, **vision):
    """Return a small CLIP of random weights in float64, whose rounding hides nothing."""
    vision_cfg = {"image_size": 16, "layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": 4}
    text_cfg = {"context_length": 20, "vocab_size": 100, "width": 16, "heads": 2, "layers": LAYERS}
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(24, vision_cfg | vision, text_cfg | (text or {}))
        for name, values in model.named_parameters():  # nothing zero or one, as biases and norms begin
            values.data += 0.1 * torch.randn(values.shape)
            assert values.abs().min() > 0 or "logit" in name
    return model.double().eval()


def pixels(count, seed=0):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TOWERS = {
    "plain": {},
    "one layer": {"layers": 1},
    "scaled": {"ls_init_value": 0.5},
    "no norm before": {"no_ln_pre": True},
    "norm after pooling": {"final_ln_after_pool": True},
}


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS)
@pytest.mark.parametrize("custom_text", [False, True])
def test_an_image_is_what_open_clip_makes_of_it(vision, custom_text):
    model = clip(custom_text=custom_text, **vision)
    tower = image_tower_of(model)
    assert tower is not model.visual
    for count in (1, 5):
        found, expected = tower(pixels(count)), model.encode_image(pixels(count))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_it_holds_the_weights_of_the_model_and_trains_alike():
    """What FedAvg changes is a flat vector in the order of the weights."""
    model = clip()
    tower = image_tower_of(model)
    ours, theirs = list(tower.parameters()), list(model.visual.parameters())
    assert [id(one) for one in ours] == [id(one) for one in theirs]
    towards = torch.randn(5, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, expected = (torch.autograd.grad(one(pixels(5)), theirs, towards) for one in (tower, model.visual))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-9)
    assert all(one.abs().max() > 0 for one in found)
    # The model itself is as it was.
    assert len(model.visual.transformer.resblocks) == LAYERS
    assert all(is_known(block) for block in model.visual.transformer.resblocks)


@pytest.mark.parametrize(
    "vision",
    [{"pool_type": "avg"}, {"attentional_pool": True}, {"qk_norm": True}],
    ids=["average", "attentional", "other layers"],
)
def test_a_tower_that_reads_more_than_the_class_token_is_left_alone(vision):
    model = clip(**vision)
    assert not reads_class_token(model.visual)
    assert image_tower_of(model) is model.visual


def test_a_tower_that_gives_its_patches_too_gives_the_image_alone():
    model = clip(custom_text=True, output_tokens=True)
    found, (expected, patches) = image_tower_of(model)(pixels(2)), model.visual(pixels(2))
    assert torch.equal(found, expected)
    assert len(patches) == 2
    assert model.visual.output_tokens


def test_a_layer_at_one_position_saves_what_it_should():
    """One of 17 positions in the last layer: no queries, outputs and feed-forward for the others."""
    model = clip()

    def products(tower):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tower(pixels(2))
        counts = counter.get_flop_counts()["Global"]
        # Attention itself has another operator where there is a fast path, so only weights are compared.
        return sum(n for op, n in counts.items() if op.__name__ in {"addmm.default", "addmm", "mm"})

    with _slow_path():
        saved = products(model.visual) - products(image_tower_of(model))
    assert saved == 2 * 2 * (17 - 1) * 10 * WIDTH**2


class _slow_path:
    """The fast path is one operator, which nothing counts."""

    def __enter__(self):
        self.was = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)

    def __exit__(self, *_):
        torch.backends.mha.set_fastpath_enabled(self.was)


@settings(deadline=None, max_examples=30)
@given(
    sequences=st.lists(st.integers(0, 19), max_size=5),
    extra=st.integers(0, 5),
    custom_text=st.booleans(),
    scaled=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_prompt_is_what_open_clip_makes_of_it(sequences, extra, custom_text, scaled, seed):
    model = clip(custom_text=custom_text, text={"ls_init_value": 0.5} if scaled else None)
    tower = text_tower_of(model, "small", EXAMPLE)
    assert tower.has_known_layers
    ends = torch.tensor(sequences, dtype=torch.long)
    length = min(20, max(sequences, default=0) + 1 + extra)
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(ends), length, 16, generator=generator, dtype=torch.float64)
    embeddings.requires_grad_()
    towards = torch.randn(len(ends), 24, generator=generator, dtype=torch.float64)
    results = []
    ways = (
        lambda: tower.encode(embeddings, tokens_with(ends, length)),
        lambda: whole(tower, embeddings, ends),
    )
    for encode in ways:
        features = encode()
        results.append((features, *torch.autograd.grad(features, embeddings, towards)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-9)


def tokens_with(ends, length):
    """Return rows of tokens whose highest is where a sequence ends."""
    return (
        torch.nn.functional.one_hot(ends, length) if len(ends) else torch.zeros(0, length, dtype=torch.long)
    )


def whole(tower, embeddings, ends):
    """Every layer at every position, by open_clip's own layers."""
    module, length = tower.module, embeddings.shape[1]
    hidden = embeddings + module.positional_embedding[:length]
    hidden = module.transformer(hidden, attn_mask=module.attn_mask[:length, :length])
    return module.ln_final(hidden)[torch.arange(len(ends)), ends] @ module.text_projection


def test_layers_of_another_kind_are_left_to_open_clip():
    model = clip(custom_text=True, text={"qk_norm": True})
    tower = text_tower_of(model, "small", EXAMPLE)
    assert not tower.has_known_layers
    embeddings = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = torch.tensor([8, 3])
    found = tower.encode(embeddings, tokens_with(ends, 9))
    torch.testing.assert_close(found, whole(tower, embeddings, ends))


def test_layers_that_are_not_the_known_ones_are_noticed():
    transformer = clip().transformer
    known = transformer.resblocks[0]

    class Changed(type(known)):
        """Could do anything in its forward."""

    assert is_known(known)
    assert not is_known(Changed(16, 2))
    with_dropout = type(known)(16, 2)
    with_dropout.attn.dropout = 0.1
    assert not is_known(with_dropout)

    assert are_known(transformer)
    for change in ({"batch_first": False}, {"grad_checkpointing": True}):
        other = copy.copy(transformer)
        vars(other).update(change)
        assert not are_known(other)


def test_the_shipped_model_is_of_the_known_kind(tiny):
    assert tiny.text_tower.has_known_layers
    assert reads_class_token(tiny.text_tower.module.visual)


def test_so_is_the_model_that_is_used_most():
    backbone = load_backbone("ViT-B-32", RANDOM)
    assert backbone.text_tower.has_known_layers
    assert reads_class_token(backbone.text_tower.module.visual)
