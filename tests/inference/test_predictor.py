import dataclasses
import io
import subprocess
import sys
import threading

import pytest
import torch
from PIL import Image

import fedapt_secure
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.inference.decoding import decode, decoded_batches
from fedapt_secure.inference.predictor import Model
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.data.reading.images import open_rgb


def test_answers_are_those_of_the_plain_model_on_each_image_alone(model, images):
    found = model.predict(images)
    assert [one.name for one in found] == [str(path) for path in images]
    assert len({one.label for one in found}) > 1
    assert {one.domain for one in found} == {"ink", "chalk"}
    backbone = load_backbone()
    for path, one in zip(images, found, strict=True):
        features = backbone.encode_images(backbone.preprocess(open_rgb(path.read_bytes()))[None])
        shares = model.classifier.predict_plain(features).softmax(1)[0]
        assert one.label == model.class_names[int(shares.argmax())]
        assert one.probability == pytest.approx(float(shares.max()), abs=1e-4)
        assert one.domain == model.domains[int(model.classifier.routing(features)[0])]
        assert [share for _, share in one.top] == pytest.approx(
            shares.sort(descending=True)[0][:5].tolist(), abs=1e-4
        )


def test_paths_bytes_and_pillow_images_mix_and_keep_their_order(model, images, tmp_path):
    path = images[0]
    alone = model.predict([path])[0]
    with Image.open(path) as opened:
        opened.load()
        mixed = model.predict(
            [path, str(path), path.read_bytes(), opened, opened.convert("RGBA"), opened.convert("CMYK")]
        )
    assert [one.name for one in mixed] == [str(path), str(path), "", "", "", ""]
    for one in mixed[:5]:
        assert (one.label, one.domain) == (alone.label, alone.domain)
        assert one.probability == pytest.approx(alone.probability, abs=1e-4)
    assert mixed[5].skipped is None
    assert model.predict(str(path)) == model.predict(path) == [alone]


def test_an_image_that_is_turned_is_read_the_same_from_file_and_from_pillow(model, images, tmp_path):
    with Image.open(images[0]) as opened:
        exif = Image.Exif()
        exif[0x0112] = 6
        opened.convert("RGB").rotate(90, expand=True).save(tmp_path / "turned.tiff", exif=exif)
        opened.convert("RGB").rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        from_file, from_pillow, upright = model.predict([tmp_path / "turned.png", turned, images[0]])
    assert from_file.probability == pytest.approx(upright.probability, abs=1e-4)
    assert from_pillow.probability == pytest.approx(upright.probability, abs=1e-4)


def test_what_cannot_be_used_is_skipped_with_its_reason(model, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:60])
    strange = [tmp_path / "absent.png", broken, b"", b"no image", tmp_path, "zero\0byte"]
    found = model.predict([images[0], *strange, images[1]])
    assert [one.skipped is None for one in found] == [True, *[False] * 6, True]
    for one in found[1:-1]:
        assert (one.label, one.probability, one.top, one.domain) == (None, None, (), None)
        assert one.skipped
    assert "No such file" in found[1].skipped
    rows = model.features([images[0], *strange, images[1]])
    assert rows.shape == (8, 64)
    assert rows[[0, -1]].isfinite().all()
    assert rows[1:-1].isnan().all()
    assert [one.skipped for one in model.predict(strange)] == [one.skipped for one in found[1:-1]]
    assert model.predict([]) == []
    assert model.features([]).shape == (0, 64)


def test_the_batch_size_changes_nothing(bundle_file, model, images):
    for size in (1, 3, 64):
        other = fedapt_secure.load(bundle_file, device="cpu", batch_size=size)
        torch.testing.assert_close(other.features(images), model.features(images), atol=1e-5, rtol=1e-5)
        assert [one.label for one in other.predict(images)] == [one.label for one in model.predict(images)]


def test_images_are_taken_as_they_are_needed(model, images):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield images[0]

    answers = model.stream(endless())
    for _ in range(20):
        next(answers)
    assert len(taken) <= 20 + 3 * model.batch_size
    answers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_top_is_bounded_by_the_classes(model, images):
    assert len(model.predict(images[:1], top=99)[0].top) == 10
    assert len(model.predict(images[:1], top=1)[0].top) == 1
    assert sum(share for _, share in model.predict(images[:1], top=10)[0].top) == pytest.approx(1)
    with pytest.raises(InvalidInput, match="top is at least 1"):
        model.predict(images[:1], top=0)


def test_a_method_without_domains_names_none(promptfl_file, images):
    model = fedapt_secure.load(promptfl_file)
    assert [one.domain for one in model.predict(images[:2])] == [None, None]


def test_wrong_weights_wrong_sizes_and_wrong_devices_are_refused(bundle_file, model):
    with pytest.raises(InvalidInput, match="tuned on other weights"):
        fedapt_secure.load(bundle_file, pretrained=RANDOM)
    with pytest.raises(InvalidInput, match="batch size: 0 is not in the range 1 to 4,096"):
        Model(model.bundle, load_backbone(), 0)
    with pytest.raises(InvalidInput, match="auto, cpu or cuda"):
        fedapt_secure.load(bundle_file, device="abacus")
    with pytest.raises(InvalidInput, match="cannot read"):
        fedapt_secure.load("absent.safetensors")


def test_features_that_are_not_finite_are_skipped(model, images, monkeypatch):
    encode = type(model.classifier).encode_images

    def overflowing(classifier, pixels):
        features = encode(classifier, pixels).clone()
        features[0, 0] = torch.inf
        return features

    monkeypatch.setattr(type(model.classifier), "encode_images", overflowing)
    first, second = model.predict(images[:2])
    assert (first.skipped, first.label) == ("its features are not finite", None)
    assert second.skipped is None


def test_the_package_itself_loads_nothing_heavy():
    code = (
        "import sys, fedapt_secure as f; f.load; sys.exit(bool({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_batches_are_whole_and_in_order(images):
    backbone = load_backbone()
    batches = list(decoded_batches(iter(images), backbone, 7))
    assert [len(batch) for batch in batches] == [7, 7, 6]
    assert [one.name for batch in batches for one in batch] == [str(path) for path in images]
    assert decode(images[0], backbone).pixels.shape == (3, *batches[0][0].pixels.shape[1:])


def test_colour_modes_of_pillow_images_are_used_or_named(images):
    backbone = load_backbone()
    with Image.open(images[0]) as opened:
        plain = opened.convert("RGB")
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "La"):
        made = plain.convert("LA").convert("La") if mode == "La" else plain.convert(mode)
        one = decode(made, backbone)
        assert (one.pixels is None) != (one.skipped is None), mode
    kept = io.BytesIO()
    plain.save(kept, "PNG")
    torch.testing.assert_close(decode(plain, backbone).pixels, decode(kept.getvalue(), backbone).pixels)
    assert dataclasses.is_dataclass(decode(plain, backbone))
