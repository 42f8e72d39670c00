import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.backbone import RANDOM, load_backbone
from fedapt_secure.learning.data.features import load_features
from fedapt_secure.learning.data.records import is_test, read_records


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(40):
            picture = Image.fromarray(rng.integers(0, 255, (24, 20, 3), np.uint8))
            picture.save(tmp_path / "images" / name / f"{number:02d}.png")
    return tmp_path / "images"


@pytest.fixture
def counted(tiny, monkeypatch):
    """Counts the batches that go through the image tower."""
    batches = []
    encode = type(tiny).encode_images
    monkeypatch.setattr(
        type(tiny), "encode_images", lambda self, pixels: batches.append(1) or encode(self, pixels)
    )
    return batches


def test_cached_features_are_those_of_the_image_tower(folder, tmp_path, tiny, counted):
    records = read_records(folder).records
    plain = load_features(records, tiny, None)
    first = load_features(records, tiny, tmp_path / "cache")
    assert len(counted) == 4
    second = load_features(records, tiny, tmp_path / "cache")
    assert len(counted) == 4
    for one in (first, second):
        assert torch.equal(one.features, plain.features)
        assert torch.equal(one.labels, plain.labels)
        assert torch.equal(one.is_test, plain.is_test)
    pixels = tiny.preprocess(Image.open(records[70].path).convert("RGB"))
    torch.testing.assert_close(plain.features[70], tiny.encode_images(pixels[None])[0], atol=1e-5, rtol=1e-4)
    assert plain.labels.tolist() == [0] * 40 + [1] * 40
    assert plain.is_test.tolist() == [is_test(record.path.read_bytes()) for record in records]
    assert len(plain.train[1]) + len(plain.test[1]) == 80
    assert torch.equal(plain.test[0], plain.features[plain.is_test])


def test_the_cache_is_for_its_owner_only(folder, tmp_path, tiny):
    load_features(read_records(folder).records, tiny, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_changed_image_or_model_is_encoded_again(folder, tmp_path, tiny, counted):
    records = read_records(folder).records
    before = load_features(records, tiny, tmp_path / "cache")
    Image.new("RGB", (24, 20), "red").save(records[0].path)
    after = load_features(records, tiny, tmp_path / "cache")
    assert not torch.equal(after.features[0], before.features[0])
    assert torch.equal(after.features[1:], before.features[1:])
    other = load_features(records, load_backbone("tiny", RANDOM), tmp_path / "cache")
    assert not torch.allclose(other.features, after.features)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_labels_do_not_come_from_the_cache(folder, tmp_path, tiny, counted):
    load_features(read_records(folder).records, tiny, tmp_path / "cache")
    relabelled = read_records(folder, ["dog", "cat"]).records
    found = load_features(relabelled, tiny, tmp_path / "cache")
    assert len(counted) == 2
    assert found.labels.tolist() == [1] * 40 + [0] * 40


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, None])
def test_a_damaged_cache_is_replaced(folder, tmp_path, tiny, counted, damage):
    records = read_records(folder).records
    expected = load_features(records, tiny, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-50] if damage is None else damage)
    assert torch.equal(load_features(records, tiny, tmp_path / "cache").features, expected.features)
    load_features(records, tiny, tmp_path / "cache")
    assert len(counted) == 4


def test_broken_images_are_skipped_and_named_also_from_the_cache(folder, tmp_path, tiny, caplog):
    records = read_records(folder).records
    whole = load_features(records, tiny, None)
    records[3].path.write_bytes(b"not an image")
    records[50].path.unlink()
    for _ in range(2):
        caplog.clear()
        found = load_features(records, tiny, tmp_path / "cache")
        assert {one.name: one.reason for one in found.skipped} == {
            "cat/03.png": "not an image",
            "dog/10.png": "No such file or directory",
        }
        assert "cat/03.png" in caplog.text
        assert "dog/10.png" in caplog.text
        kept = [index for index in range(80) if index not in {3, 50}]
        torch.testing.assert_close(found.features, whole.features[kept], atol=1e-5, rtol=1e-4)
        assert found.labels.tolist() == [0] * 39 + [1] * 39


def test_no_usable_image_is_an_error(folder, tiny):
    records = read_records(folder).records[:2]
    for record in records:
        record.path.write_bytes(b"not an image")
    with pytest.raises(InvalidInput, match="none of the 2 images"):
        load_features(records, tiny, None)


def test_progress_is_told_to_the_end(folder, tmp_path, tiny):
    records = read_records(folder).records
    for expected in ([(64, 80), (80, 80)], [(80, 80)]):
        told = []
        load_features(
            records, tiny, tmp_path / "cache", lambda done, total, told=told: told.append((done, total))
        )
        assert told == expected
