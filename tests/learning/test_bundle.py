import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.inference.predictor import load_model, with_prior_weight
from fedapt_secure.learning.bundle import (
    FORMAT_VERSION,
    Bundle,
    decode_bundle,
    encode_bundle,
    read_bundle,
    write_bundle,
)
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.protocol.parameters import ParameterShape
from tests.export.conftest import make_bundle as any_bundle

UNSEALED = "0" * 64
FEATURES = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))


def make_bundle(backbone, *, class_specific):
    rng = np.random.default_rng(0)
    classes = (3,) if class_specific else ()
    return Bundle(
        shape=ParameterShape(3, 4, 64, 64, 2, class_specific),
        parameters={
            "meta_prompt": rng.normal(size=(*classes, 4, 64)).astype(np.float32),
            "adaptive_network": rng.normal(size=(2, 64)).astype(np.float32),
        },
        keys=rng.random((2, 4, 64), np.float32),
        class_names=("cat", "fire_truck", "dög"),
        domains=("ink", "chalk"),
        key_domains=((0,), (1,)),
        zero_shot_template="a photo of a {}",
        model=backbone.name,
        pretrained=backbone.pretrained,
        weight_hash=backbone.weight_hash,
        model_identity=backbone.identity,
        logit_scale=backbone.logit_scale,
        temperature=0.01,
    )


@pytest.fixture(params=[True, False], ids=["class-specific", "shared"])
def bundle(request, tiny):
    return make_bundle(tiny, class_specific=request.param)


@pytest.fixture(scope="module")
def content(tiny):
    """A bundle's file."""
    return encode_bundle(make_bundle(tiny, class_specific=True))


def test_a_bundle_comes_back_as_it_was(bundle, tmp_path):
    path = tmp_path / "model.safetensors"
    write_bundle(path, bundle)
    found = read_bundle(path)
    for name in {field.name for field in dataclasses.fields(Bundle)} - {"parameters", "keys"}:
        assert getattr(found, name) == getattr(bundle, name)
    assert np.array_equal(found.keys, bundle.keys)
    assert found.parameters.keys() == bundle.parameters.keys()
    assert all(np.array_equal(found.parameters[name], bundle.parameters[name]) for name in found.parameters)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_equal_bundles_are_equal_bytes(bundle, tmp_path):
    hashes = {hashlib.sha256(encode_bundle(dataclasses.replace(bundle))).hexdigest() for _ in range(20)}
    path = tmp_path / "model.safetensors"
    write_bundle(path, bundle)
    write_bundle(path, read_bundle(path))
    assert hashes == {hashlib.sha256(path.read_bytes()).hexdigest()}
    other = dataclasses.replace(bundle, keys=bundle.keys[::-1].copy())
    assert encode_bundle(other) != encode_bundle(bundle)


def test_keys_that_domains_share_or_have_several_of(bundle):
    shared = dataclasses.replace(bundle, domains=("ink", "chalk", "scan"), key_domains=((0, 2), (1,)))
    found = decode_bundle(encode_bundle(shared), "shared")
    assert found.key_names == ("ink + scan", "chalk")
    assert found.own_keys == {"ink": {0}, "chalk": {1}, "scan": {0}}
    several = dataclasses.replace(bundle, domains=("ink",), key_domains=((0,), (0,)))
    found = decode_bundle(encode_bundle(several), "several")
    assert found.key_names == ("ink 1", "ink 2")
    assert found.own_keys == {"ink": {0, 1}}


def test_the_model_predicts_on_the_right_weights_only(bundle, tiny):
    model = bundle.model_on(tiny)
    features = torch.randn(5, 64)
    assert model.predict(features).shape == (5, 3)
    with pytest.raises(InvalidInput, match="tuned on other weights"):
        bundle.model_on(load_backbone("tiny", RANDOM))


def rewritten(bundle, path, tensors=None, **changes):
    """Write a bundle with changes that its writer meant: the digest is that of the changed file."""
    header = json.loads(safetensors_metadata(bundle)) | {"sha256": UNSEALED} | changes
    parts = {**bundle.parameters, "keys": bundle.keys}
    described = json.dumps(header, sort_keys=True, separators=(",", ":"))
    unsealed = safetensors.numpy.save(parts | (tensors or {}), {"fedapt-secure": described})
    digest = hashlib.sha256(unsealed).hexdigest()
    path.write_bytes(unsealed.replace(UNSEALED.encode(), digest.encode(), 1))
    return path


def safetensors_metadata(bundle):
    content = encode_bundle(bundle)
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]["fedapt-secure"]


def test_rewriting_nothing_is_accepted(bundle, tmp_path):
    assert read_bundle(rewritten(bundle, tmp_path / "same")).class_names == bundle.class_names


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("has bundle format 7, this version reads 3 to 6: update fedapt-secure", {"format_version": 7}),
        ("has bundle format 1, this version reads 3 to 6: fetch or make", {"format_version": 1}),
        ("description is missing or damaged", {"format_version": "1"}),
        ("description is missing or damaged", {"class_names": [1, 2, 3]}),
        ("description is missing or damaged", {"unknown": 1}),
        ("do not fit each other", {"context_tokens": 5}),
        ("do not fit each other", {"domains": ["ink"]}),
        ("do not fit each other", {"key_domains": [[0]]}),
        ("do not fit each other", {"key_domains": [[0], [2]]}),
        ("do not fit each other", {"key_domains": [[0], []]}),
        ("do not fit each other", {"method": "promptfl"}),
        ("there is no method", {"method": "magic"}),
        ("description is missing or damaged", {"sha256": "none"}),
        ("was changed or damaged", {"sha256": "1" * 64}),
    ],
)
def test_a_wrong_description_is_refused(bundle, tmp_path, message, changes):
    with pytest.raises(InvalidInput, match=message):
        read_bundle(rewritten(bundle, tmp_path / "wrong", **changes))


def test_wrong_tensors_are_refused(bundle, tmp_path):
    nan, outside = bundle.parameters["meta_prompt"].copy(), bundle.keys.copy()
    nan.flat[0], outside.flat[0] = np.nan, -1.0
    cases = [
        ("not finite", {"meta_prompt": nan}),
        (r"outside \[0, 1\)", {"keys": outside}),
        ("expected tensors", {"keys": bundle.keys.astype(np.float64)}),
        ("do not fit", {"more": bundle.keys}),
        ("do not fit", {"keys": bundle.keys[:, :, :32].copy()}),
        ("do not fit", {"adaptive_network": bundle.parameters["adaptive_network"][:1].copy()}),
    ]
    for message, tensors in cases:
        with pytest.raises(InvalidInput, match=message):
            read_bundle(rewritten(bundle, tmp_path / "wrong", tensors))


def test_files_of_another_kind_are_refused(bundle, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(InvalidInput, match="cannot read"):
        read_bundle(path)
    content = encode_bundle(bundle)
    for broken in (b"", b"no bundle at all", content[:-1], content[: len(content) // 2], content[8:]):
        path.write_bytes(broken)
        with pytest.raises(InvalidInput, match="not a model bundle"):
            read_bundle(path)
    path.write_bytes(safetensors.numpy.save({"keys": bundle.keys}))
    with pytest.raises(InvalidInput, match="description is missing"):
        read_bundle(path)
    with pytest.raises(InvalidInput, match="cannot write"):
        write_bundle(tmp_path / "nowhere" / "file", bundle)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_changed_bit_anywhere_is_refused(content, data):
    assert decode_bundle(content, "whole").class_names == ("cat", "fire_truck", "dög")
    header = 8 + int.from_bytes(content[:8], "little")
    places = st.one_of(st.integers(0, header - 1), st.integers(header, len(content) - 1))
    place, bit = data.draw(places), data.draw(st.integers(0, 7))
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    with pytest.raises(InvalidInput):
        decode_bundle(bytes(changed), "changed")


def test_every_changed_bit_of_the_digest_is_refused(content):
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    digest = json.loads(json.loads(header)["__metadata__"]["fedapt-secure"])["sha256"]
    start = content.index(digest.encode())
    for place in range(start, start + len(digest)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            with pytest.raises(InvalidInput):
                decode_bundle(bytes(changed), "changed")


def test_a_class_name_cannot_pass_for_the_digest(bundle):
    tricky = ('"sha256":"' + UNSEALED + '"', '\\"sha256\\":\\"' + UNSEALED + '\\"', "dog")
    named = dataclasses.replace(bundle, class_names=tricky)
    assert decode_bundle(encode_bundle(named), "tricky").class_names == tricky


def test_the_format_has_the_version_that_is_documented(content):
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    described = json.loads(json.loads(header)["__metadata__"]["fedapt-secure"])
    assert described["format_version"] == FORMAT_VERSION == 6
    assert len(bytes.fromhex(described["sha256"])) == 32


class TestWhatTheModelIs:
    """The CLIP that a bundle belongs to is more than its weights."""

    @pytest.mark.parametrize(
        ("field", "other"),
        [
            ("activation", "quick-gelu"),
            ("mean", (0.1, 0.2, 0.3)),
            ("std", (0.1, 0.2, 0.3)),
            ("interpolation", "bilinear"),
            ("resize_mode", "longest"),
            ("image_size", (32, 40)),
            ("fill", 255),
            ("tokenizer", "5a" * 32),
            ("architecture", "5a" * 32),
        ],
    )
    def test_another_one_is_refused_by_name(self, bundle, tiny, field, other):
        changed = tiny.identity.model_copy(update={field: other})
        tuned_elsewhere = dataclasses.replace(bundle, model_identity=changed)
        with pytest.raises(InvalidInput, match=f"though its weights are the same: {field} is") as caught:
            decode_bundle(encode_bundle(tuned_elsewhere), "other").model_on(tiny)
        assert str(caught.value).count("the bundle's") == 1
        assert tuned_elsewhere.model_hash != bundle.model_hash == tiny.model_hash

    def test_what_logits_have_added_is_kept(self, bundle):
        biased = dataclasses.replace(bundle, logit_bias=-10.0)
        assert decode_bundle(encode_bundle(biased), "biased").logit_bias == -10.0

    def test_a_file_of_the_format_before_is_read(self, tiny):
        """Written by the version before on the model that ships; it says nothing but the weights."""
        old = read_bundle(Path(__file__).parent / "bundles" / "format-3.safetensors")
        assert (old.model_identity, old.logit_bias, old.model_hash) == (None, None, None)
        assert old.class_names == ("cat", "fire_truck", "dög")
        features = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
        expected = dataclasses.replace(old, model_identity=tiny.identity).model_on(tiny).predict(features)
        assert torch.equal(old.model_on(tiny).predict(features), expected)
        with pytest.raises(InvalidInput, match="tuned on other weights"):
            old.model_on(load_backbone("tiny", RANDOM))

    def test_using_it_says_what_it_cannot_say(self, caplog):
        load_model(Path(__file__).parent / "bundles" / "format-3.safetensors", device="cpu")
        assert "says nothing of its CLIP but the weights" in caplog.text


class TestPriorWeight:
    """How much of the untuned CLIP a model keeps travels with it."""

    def test_it_survives_the_file(self, bundle, tiny):
        kept = dataclasses.replace(bundle, prior_weight=0.25)
        found = decode_bundle(encode_bundle(kept), "kept")
        assert found.prior_weight == 0.25
        features = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
        assert torch.equal(found.model_on(tiny).predict(features), kept.model_on(tiny).predict(features))
        assert not torch.equal(
            found.model_on(tiny).predict(features), bundle.model_on(tiny).predict(features)
        )

    @pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), "0.5"])
    def test_what_is_no_share_is_refused(self, bundle, weight):
        with pytest.raises(ValueError):
            decode_bundle(encode_bundle(dataclasses.replace(bundle, prior_weight=weight)), "wrong")

    def test_a_file_of_the_format_before_keeps_nothing(self, tiny):
        old = read_bundle(Path(__file__).parent / "bundles" / "format-4.safetensors")
        assert (old.prior_weight, old.model_identity) == (0.0, tiny.identity)
        now = make_bundle(tiny, class_specific=True)
        assert torch.equal(old.model_on(tiny).predict(FEATURES), now.model_on(tiny).predict(FEATURES))

    def test_whoever_uses_it_chooses(self, bundle, tmp_path):
        path = tmp_path / "model.safetensors"
        write_bundle(path, bundle)
        loaded = load_model(path, device="cpu", prior_weight=1.0)
        untuned = loaded.classifier.text.zero_shot(bundle.zero_shot_template)
        expected = bundle.logit_scale * torch.nn.functional.normalize(FEATURES, dim=1) @ untuned.T
        assert torch.allclose(loaded.classifier.predict(FEATURES), expected, atol=1e-4)
        with pytest.raises(InvalidInput, match="prior weight: "):
            load_model(path, device="cpu", prior_weight=1.1)

    def test_a_tuned_image_tower_leaves_nothing_to_be_kept(self):
        with pytest.raises(InvalidInput, match="the method fedavg knows no prior weight"):
            with_prior_weight(any_bundle("fedavg"), 0.5)
