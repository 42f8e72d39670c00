"""What makes two models the same, and what is known of a checkpoint file's weights."""

import importlib.util
import json
import logging
import shutil
from hashlib import sha256

import open_clip
import open_clip.factory as open_clip_factory
import pytest
import torch
from open_clip import pretrained as open_clip_table
from PIL import Image
from safetensors.torch import save_file

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip import backbone as backbones
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.records import Record
from tests.support.hub_models import make_model, make_tokenizer

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

AMBIGUOUS = "ambiguous-for-a-test"


def folder_with(path, model=None, preparation=None):
    path.mkdir()
    described = {"model_cfg": SMALL | (model or {}), "preprocess_cfg": preparation or {}}
    (path / "open_clip_config.json").write_text(json.dumps(described))
    return load_backbone(f"local-dir:{path}", RANDOM)


@pytest.mark.parametrize(
    ("field", "model", "preparation"),
    [
        ("activation", {"quick_gelu": True}, {}),
        ("architecture", {"text_cfg": SMALL["text_cfg"] | {"norm_kwargs": {"eps": 1e-6}}}, {}),
        ("architecture", {"text_cfg": SMALL["text_cfg"] | {"heads": 4}}, {}),
        ("tokenizer", {"text_cfg": SMALL["text_cfg"] | {"tokenizer_kwargs": {"clean": "canonicalize"}}}, {}),
        ("mean", {}, {"mean": [0.4, 0.5, 0.6]}),
        ("std", {}, {"std": [0.4, 0.5, 0.6]}),
        ("interpolation", {}, {"interpolation": "bilinear"}),
        ("resize_mode", {}, {"resize_mode": "longest"}),
        ("fill", {}, {"fill_color": 128}),
    ],
)
def test_equal_weights_do_not_make_two_models_the_same(tmp_path, field, model, preparation):
    one, other = folder_with(tmp_path / "one"), folder_with(tmp_path / "other", model, preparation)
    assert one.weight_hash == other.weight_hash
    assert [name for name, _, _ in one.identity.differences(other.identity)] == [field]
    assert one.model_hash != other.model_hash


def test_where_a_model_was_taken_from_makes_no_difference(tmp_path, monkeypatch):
    monkeypatch.setitem(open_clip_factory._MODEL_CONFIGS, "small-for-a-test", SMALL)
    by_name = load_backbone("small-for-a-test", RANDOM)
    in_a_folder = folder_with(tmp_path / "folder", {"quick_gelu": False, "custom_text": False})
    assert by_name.identity == in_a_folder.identity
    assert by_name.model_hash == in_a_folder.model_hash


@pytest.mark.parametrize("kind", ["bert", "eos"])
def test_nor_does_what_the_folder_calls_the_text_model(tmp_path, kind):
    one, renamed = copied(tmp_path, kind), tmp_path / "other" / "open_clip_config.json"
    renamed.write_text(renamed.read_text().replace("some-institute", "elsewhere").replace("the-folder", "it"))
    other = load_backbone(f"local-dir:{tmp_path / 'other'}", RANDOM)
    assert not list(one.identity.differences(other.identity))


def copied(path, kind):
    """Return a model in a folder ``one``, copied to ``other``: making a tokenizer twice gives two."""
    (path / "one").mkdir()
    name = make_model(path / "one", kind)
    shutil.copytree(path / "one", path / "other")
    return load_backbone(name, RANDOM)


def test_another_vocabulary_is_another_tokenizer(tmp_path):
    one = copied(tmp_path, "eos")
    file = tmp_path / "other" / "tokenizer.json"
    described = json.loads(file.read_text())
    vocabulary = described["model"]["vocab"]
    vocabulary[-1], vocabulary[-2] = vocabulary[-2], vocabulary[-1]
    file.write_text(json.dumps(described))
    other = load_backbone(f"local-dir:{tmp_path / 'other'}", RANDOM)
    assert one.weight_hash == other.weight_hash
    assert [name for name, _, _ in one.identity.differences(other.identity)] == ["tokenizer"]


def test_a_tokenizers_hash_stays_after_it_was_used(tmp_path):
    make_tokenizer(tmp_path, "wordpiece")
    backbone = load_backbone(make_model(tmp_path, "bert"), RANDOM)
    before = backbone.identity.tokenizer
    backbone.tokenize(["a photo of a cat"] * 3)
    del backbone.identity
    assert backbone.identity.tokenizer == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two checkpoints of the ambiguous model."""
    path = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip_factory._MODEL_CONFIGS, AMBIGUOUS, SMALL)
        for name in ("known", "unknown"):
            torch.manual_seed(len(name))
            save_file(open_clip.create_model(AMBIGUOUS).state_dict(), path / f"{name}.safetensors")
    return path


class TestCheckpointFiles:
    """ViT-B-32 and its kin in small: a name with weights of both activations in open_clip's table."""

    @pytest.fixture(autouse=True)
    def _table(self, folder, monkeypatch):
        monkeypatch.setitem(open_clip_factory._MODEL_CONFIGS, AMBIGUOUS, SMALL)
        digest = sha256((folder / "known.safetensors").read_bytes()).hexdigest()
        quick = {"url": f"https://example.org/{digest}/known.pt", "quick_gelu": True, "hf_hub": "some/quick/"}
        plain = {"url": "https://example.org/model-0123abcd.pt", "hf_hub": "some/plain/"}
        usual = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear"}
        tags = {"quick": quick | usual, "plain": plain | usual | {"resize_mode": "squash"}}
        monkeypatch.setitem(open_clip_table._PRETRAINED, AMBIGUOUS, tags)

    @pytest.fixture
    def load(self, caplog):
        def load(file, activation=None):
            with caplog.at_level(logging.WARNING):
                return load_backbone(AMBIGUOUS, str(file), activation=activation)

        return load

    def test_published_weights_are_known_by_their_hash(self, folder, load, caplog, tmp_path):
        file = shutil.copy(folder / "known.safetensors", tmp_path / "of-any-name.safetensors")
        identity = load(file).identity
        assert (identity.activation, identity.mean, identity.interpolation) == (
            "quick-gelu",
            (0.5, 0.5, 0.5),
            "bilinear",
        )
        assert not caplog.records

    def test_so_are_those_in_the_folder_of_the_hubs_client(self, folder, load, caplog, tmp_path):
        for name, activation, mode in (("quick", "quick-gelu", "shortest"), ("plain", "gelu", "squash")):
            place = tmp_path / f"models--some--{name}" / "snapshots" / "0123"
            place.mkdir(parents=True)
            identity = load(shutil.copy(folder / "unknown.safetensors", place / "w.safetensors")).identity
            assert (identity.activation, identity.resize_mode) == (activation, mode)
        assert not caplog.records

    def test_so_are_those_with_their_configuration_beside_them(self, folder, load, caplog, tmp_path):
        described = {"model_cfg": SMALL | {"quick_gelu": True}, "preprocess_cfg": {"resize_mode": "longest"}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
        identity = load(shutil.copy(folder / "unknown.safetensors", tmp_path / "w.safetensors")).identity
        assert (identity.activation, identity.resize_mode) == ("quick-gelu", "longest")
        assert not caplog.records

    def test_of_others_a_warning_says_what_nobody_knows(self, folder, load, caplog):
        identity = load(folder / "unknown.safetensors").identity
        assert (identity.activation, identity.mean) == ("gelu", (0.5, 0.5, 0.5))
        first, second = (record.getMessage() for record in caplog.records)
        assert "does not say which activation" in first
        assert "--activation quick-gelu or gelu" in first
        assert "the usual resize_mode of" in second

    def test_an_option_decides_where_nobody_knows(self, folder, load, caplog):
        backbones = [load(folder / "unknown.safetensors", one) for one in ("gelu", "quick-gelu")]
        assert [one.identity.activation for one in backbones] == ["gelu", "quick-gelu"]
        assert not any("activation" in record.getMessage() for record in caplog.records)
        assert backbones[0].weight_hash == backbones[1].weight_hash
        pixels = torch.stack([backbones[0].preprocess(Image.new("RGB", (40, 40), "red"))])
        features = [one.encode_images(pixels) for one in backbones]
        assert (features[0] - features[1]).abs().max() > 1e-4

    def test_it_is_refused_where_the_weights_are_known(self, folder, load):
        with pytest.raises(InvalidInput, match="have the activation quick-gelu, not gelu") as caught:
            load(folder / "known.safetensors", "gelu")
        assert caught.value.code == "model_differs"
        with pytest.raises(InvalidInput, match="have the activation gelu, not quick-gelu"):
            load_backbone("tiny", activation="quick-gelu")

    def test_a_name_whose_weights_are_all_alike_needs_no_warning(self, folder, load, caplog, monkeypatch):
        monkeypatch.setitem(open_clip_table._PRETRAINED, AMBIGUOUS, {"plain": {"url": "", "mean": (0, 0, 0)}})
        moved = shutil.copy(folder / "unknown.safetensors", folder / "alone.safetensors")
        identity = load(moved).identity
        assert (identity.activation, identity.mean) == ("gelu", (0.0, 0.0, 0.0))
        assert not caplog.records


def test_what_open_clip_publishes_of_openai_is_known_by_its_address():
    """The table's own entries: each of OpenAI's weights has its hash in its address, and QuickGELU."""
    from fedapt_secure.learning.clip.published import _HASH_IN_ADDRESS  # noqa: PLC0415

    found = [
        (tag, _HASH_IN_ADDRESS.search(tag["url"]))
        for name in open_clip.list_models()
        for tag in [open_clip.get_pretrained_cfg(name, "openai")]
        if tag
    ]
    assert len(found) >= 9
    assert all(tag["quick_gelu"] and match and len(match[1]) in (63, 64) for tag, match in found)


@pytest.mark.parametrize("kind", ["bert", "coca-roberta"])
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, kind):
    name, found = make_model(tmp_path, kind), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "transformers" else found(name)
    )
    with pytest.raises(InvalidInput, match=r"pip install 'fedapt-secure\[hf\]'"):
        load_backbone(name, RANDOM)


def test_random_weights_do_without_a_tokenizer_and_say_so(tmp_path, caplog):
    name = make_model(tmp_path, "last")
    (tmp_path / "tokenizer.json").unlink()
    backbone = load_backbone(name, RANDOM)
    assert "a stand-in serves its random weights" in caplog.text
    rows = backbone.tokenize(["a photo of a cat", "cat a photo"])
    first, second = rows[0, :5].tolist(), rows[1, :3].tolist()
    assert first[0] == first[3] == second[1]  # "a"
    assert first[4] == second[0]  # "cat"


def test_weights_that_are_not_random_do_not(tmp_path, monkeypatch):
    name = make_model(tmp_path, "last")
    save_file(open_clip.create_model(name).state_dict(), tmp_path / "open_clip_model.safetensors")
    assert load_backbone(name).logit_bias == -10.0
    (tmp_path / "tokenizer.json").unlink()
    monkeypatch.setattr(backbones, "_loaded", {})
    with pytest.raises(InvalidInput, match="cannot load the model") as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "preparation"),
    [({"quick_gelu": True}, {}), ({}, {"mean": [0.4, 0.5, 0.6]}), ({}, {"fill_color": 1})],
)
def test_features_of_another_one_are_not_found_again(tmp_path, model, preparation):
    one, other = folder_with(tmp_path / "one"), folder_with(tmp_path / "other", model, preparation)
    file = tmp_path / "image.png"
    Image.effect_noise((50, 40), 60).convert("RGB").save(file)
    records = [Record(file, 0, "image.png")]
    for backbone in (one, other, one):
        # As an institution whose folder is replaced by another that has its name.
        backbone.name = "local-dir:clip"
        assert len(load_features(records, backbone, tmp_path / "cache").features) == 1
    assert len(list((tmp_path / "cache").glob("*/about.json"))) == 2
