import logging
import socket
import threading
import urllib.request

import pytest
import torch
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone


def test_the_shipped_model_is_frozen_and_loaded_once(tiny):
    assert load_backbone("tiny") is tiny
    assert (tiny.feature_size, tiny.text_width, tiny.context_length) == (64, 64, 32)
    assert not any(parameter.requires_grad for parameter in tiny.text_tower.module.parameters())
    assert not tiny.text_tower.module.training
    assert 1 < tiny.logit_scale < 110


def test_threads_share_one_model(small_model_folder):
    name = small_model_folder("threads")
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_backbone(name, RANDOM))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(one) for one in found}) == 1


def test_image_features_are_float32_and_not_normalised(tiny):
    pixels = torch.stack([tiny.preprocess(Image.new("RGB", (50, 40), colour)) for colour in ("red", "white")])
    features = tiny.encode_images(pixels)
    assert features.shape == (2, 64)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert (features.norm(dim=1) > 2).all()
    assert not torch.allclose(features[0], features[1])


def test_random_weights_are_the_same_each_time_and_leave_torch_alone(small_model_folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = load_backbone(small_model_folder("one"), RANDOM)
    assert torch.equal(torch.rand(3), expected)
    other = load_backbone(small_model_folder("two"), RANDOM)
    assert one is not other
    assert one.weight_hash == other.weight_hash


def test_the_weight_hash_sees_one_changed_value(small_model_folder):
    one = load_backbone(small_model_folder("changed"), RANDOM)
    before = one.weight_hash
    one.text_tower.module.logit_scale.data += 1e-6
    del one.weight_hash
    assert one.weight_hash != before


def test_the_preprocessing_identity_tells_models_apart(tiny, small, small_custom):
    assert small.preprocess_hash == small_custom.preprocess_hash != tiny.preprocess_hash


def test_loading_says_nothing(small_model_folder, caplog, capfd):
    with caplog.at_level(logging.INFO):
        load_backbone(small_model_folder("quiet"), RANDOM)
        with pytest.raises(InvalidInput):
            load_backbone(small_model_folder("weightless-and-quiet"))
        assert not caplog.records
        logging.info("the root logger works again")
        assert [record.message for record in caplog.records] == ["the root logger works again"]
    assert capfd.readouterr().err == ""


def test_without_a_network_the_hub_is_not_tried_again_and_again(monkeypatch):
    lookups = []

    def no_such_host(*arguments, **_):
        lookups.append(arguments)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(InvalidInput, match="cannot load the model hf-hub:no-one/nothing"):
        load_backbone("hf-hub:no-one/nothing")
    assert len(lookups) == 1


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-23", "openai", "did you mean ViT-B-32"),
        ("tinny", None, "did you mean tiny"),
        ("ViT-B-32", None, "name the weights of ViT-B-32 with pretrained: one of .*openai"),
        ("ViT-B-32", "no-such-tag", "cannot load the model ViT-B-32 with the weights no-such-tag"),
        ("tiny", "openai", "leave pretrained out"),
        ("local-dir:no-such-folder", None, "cannot load"),
    ],
)
def test_a_wrong_name_gets_one_helpful_line(model, pretrained, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        load_backbone(model, pretrained)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_refused_unless_random_ones_are_asked_for(small_model_folder):
    with pytest.raises(InvalidInput, match="cannot load"):
        load_backbone(small_model_folder("weightless"))


def test_a_broken_checkpoint_file_gets_one_line(tmp_path):
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInput, match="cannot load the model RN50 ") as caught:
        load_backbone("RN50", str(broken))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_large_model_takes_the_same_path():
    backbone = load_backbone("ViT-B-32", RANDOM)
    assert (backbone.feature_size, backbone.text_width, backbone.context_length) == (512, 512, 77)
    assert backbone.encode_images(torch.zeros(1, 3, 224, 224)).shape == (1, 512)
