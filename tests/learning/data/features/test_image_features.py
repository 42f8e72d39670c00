import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.data.features import encoding
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.records import Record, is_test, read_records


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
    """Lists the sizes of the batches that go through the image tower."""
    batches = []
    encode = type(tiny).encode_images
    monkeypatch.setattr(
        type(tiny), "encode_images", lambda self, pixels: batches.append(len(pixels)) or encode(self, pixels)
    )
    return batches


def in_record_order(found):
    """Rows come with training before tests; this is the order in which the records were given."""
    order = torch.argsort(found.record_numbers)
    return found.features[order], found.labels[order], found.is_test[order]


def shards(cache):
    return sorted(cache.glob("*/*.safetensors"))


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
    features, labels, is_tests = in_record_order(plain)
    pixels = tiny.preprocess(Image.open(records[70].path).convert("RGB"))
    torch.testing.assert_close(features[70], tiny.encode_images(pixels[None])[0], atol=1e-5, rtol=1e-4)
    assert labels.tolist() == [0] * 40 + [1] * 40
    assert is_tests.tolist() == [is_test(record.path.read_bytes()) for record in records]


def test_training_and_tests_are_parts_of_the_same_memory(folder, tmp_path, tiny):
    found = load_features(read_records(folder).records, tiny, tmp_path / "cache")
    training = int((~found.is_test).sum())
    assert 0 < training < 80
    assert found.is_test.tolist() == [False] * training + [True] * (80 - training)
    assert found.record_numbers[:training].tolist() == sorted(found.record_numbers[:training].tolist())
    for part, start in ((found.train, 0), (found.test, training)):
        assert part[0].data_ptr() == found.features[start:].data_ptr(), "no copy"
        assert torch.equal(part[1], found.labels[start : start + len(part[1])])
    assert len(found.train[1]) + len(found.test[1]) == 80
    assert len(found.digests_of(test=False)) == training
    mixed = replace(found, is_test=torch.arange(80) % 2 == 0)
    assert torch.equal(mixed.test[0], found.features[::2])
    assert torch.equal(mixed.train[1], found.labels[1::2])


def test_a_changed_image_or_model_is_encoded_again_and_nothing_else(folder, tmp_path, tiny, counted):
    records = read_records(folder).records
    before = load_features(records, tiny, tmp_path / "cache")
    Image.new("RGB", (24, 20), "red").save(records[0].path)
    counted.clear()
    after = load_features(records, tiny, tmp_path / "cache")
    assert counted == [1]
    features, known = in_record_order(after)[0], in_record_order(before)[0]
    assert not torch.equal(features[0], known[0])
    assert torch.equal(features[1:], known[1:])
    other = load_features(records, load_backbone("tiny", RANDOM), tmp_path / "cache")
    assert not torch.allclose(in_record_order(other)[0], features)
    assert len(list((tmp_path / "cache").glob("*/about.json"))) == 2


def test_new_images_cost_their_own_encoding_only(folder, tmp_path, tiny, counted):
    records = read_records(folder).records
    load_features(records[:50], tiny, tmp_path / "cache")
    counted.clear()
    found = load_features(records, tiny, tmp_path / "cache")
    assert sum(counted) == 30
    torch.testing.assert_close(
        found.features, load_features(records, tiny, None).features, atol=1e-5, rtol=1e-4
    )
    counted.clear()
    elsewhere = [replace(one, name=f"other-{one.name}", split="test") for one in reversed(records[20:60])]
    assert load_features(elsewhere, tiny, tmp_path / "cache").is_test.all()
    assert counted == [], "other names, order and split: the same images"


def test_a_file_that_is_there_twice_is_used_once(folder, tmp_path, tiny, counted):
    records = list(read_records(folder).records)
    again = replace(records[3], name="again.png")
    found = load_features([*records, again], tiny, tmp_path / "cache")
    assert sum(counted) == len(found.features) == 80
    assert [(one.name, one.reason) for one in found.skipped] == [
        ("again.png", f"duplicate: the same file as {records[3].name}")
    ]


def test_labels_do_not_come_from_the_cache(folder, tmp_path, tiny, counted):
    load_features(read_records(folder).records, tiny, tmp_path / "cache")
    relabelled = read_records(folder, ["dog", "cat"]).records
    found = load_features(relabelled, tiny, tmp_path / "cache")
    assert len(counted) == 2
    assert in_record_order(found)[1].tolist() == [1] * 40 + [0] * 40


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, None])
def test_a_damaged_cache_is_replaced(folder, tmp_path, tiny, counted, damage):
    records = read_records(folder).records
    expected = load_features(records, tiny, tmp_path / "cache")
    (file,) = shards(tmp_path / "cache")
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
        features, labels, _ = in_record_order(found)
        torch.testing.assert_close(features, in_record_order(whole)[0][kept], atol=1e-5, rtol=1e-4)
        assert labels.tolist() == [0] * 39 + [1] * 39


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


def darker(image, rng):
    return image.point(lambda value: int(value * rng.uniform(0.2, 0.8)))


def test_a_view_is_kept_beside_the_plain_one_and_follows_from_the_image_alone(
    folder, tmp_path, tiny, counted
):
    records = read_records(folder).records
    plain = load_features(records, tiny, tmp_path / "cache")
    first = load_features(records, tiny, tmp_path / "cache", view="darker-1", transform=darker)
    counted.clear()
    again = load_features(records, tiny, tmp_path / "cache", view="darker-1", transform=darker)
    assert counted == []
    assert torch.equal(again.features, first.features)
    other = load_features(records, tiny, None, view="darker-2", transform=darker)
    afresh = load_features(records[::-1], tiny, None, view="darker-1", transform=darker)
    torch.testing.assert_close(
        in_record_order(afresh)[0].flip(0), in_record_order(first)[0], atol=1e-5, rtol=1e-4
    )
    for one in (plain, other):
        assert not torch.allclose(one.features, first.features, atol=1e-3)
    assert torch.equal(plain.record_numbers, first.record_numbers)


@pytest.mark.parametrize("fields", [{"view": "darker"}, {"transform": darker}])
def test_a_view_without_a_transform_is_a_mistake(folder, tiny, fields):
    with pytest.raises(ValueError, match="a view other than plain has a transform"):
        load_features(read_records(folder).records, tiny, None, **fields)


def test_an_image_that_changes_between_hash_and_decoding_does_not_spoil_the_cache(folder, tmp_path, tiny):
    records = read_records(folder).records[:10]
    cache, victim = tmp_path / "cache", records[4].path
    original = victim.read_bytes()
    changing = replace(records[4], path=_ChangesWhenReadAgain(victim))
    found = load_features([*records[:4], changing, *records[5:]], tiny, cache)
    assert [(one.name, one.reason) for one in found.skipped] == [("cat/04.png", "changed while it was read")]
    victim.write_bytes(original)
    whole = load_features(records, tiny, cache)
    assert whole.skipped == ()
    torch.testing.assert_close(
        whole.features, load_features(records, tiny, None).features, atol=1e-5, rtol=1e-4
    )


class _ChangesWhenReadAgain(type(Path())):
    """A file that somebody replaces right after it was opened for its hash."""

    def read_bytes(self):
        Image.new("RGB", (24, 20), "blue").save(Path(self))
        return super().read_bytes()


def test_what_progress_raises_ends_the_work_and_keeps_what_is_done(folder, tmp_path, tiny, counted):
    records = read_records(folder).records

    def stop(done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_features(records, tiny, tmp_path / "cache", stop)
    assert counted == [64]
    load_features(records, tiny, tmp_path / "cache")
    assert counted == [64, 16]


def test_without_a_readable_image_it_says_so(tmp_path, tiny):
    records = [Record(tmp_path / "gone.png", 0, "gone.png")]
    with pytest.raises(InvalidInput, match="none of the 1 images can be read"):
        load_features(records, tiny, tmp_path / "cache")


def test_no_more_encode_at_a_time_than_there_are_places(folder, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(encoding, "_at_work", BoundedSemaphore(1))
    records, at_work, most = read_records(folder).records, [], []
    encode = type(tiny).encode_images

    def slow(self, pixels):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()
        return encode(self, pixels)

    monkeypatch.setattr(type(tiny), "encode_images", slow)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda n: load_features(records, tiny, tmp_path / f"{n}"), range(3)))
    assert max(most) == 1
    assert all(torch.equal(one.features, found[0].features) for one in found)


def test_who_waits_for_a_place_can_give_up(folder, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(encoding, "_at_work", BoundedSemaphore(1))
    monkeypatch.setattr(encoding, "_LOOK_S", 0.01)

    def stop(done, total):
        raise InterruptedError

    with encoding._at_work, pytest.raises(InterruptedError):
        load_features(read_records(folder).records, tiny, tmp_path / "cache", progress=stop)
