"""Copies of a picture are one record: by bytes, by pixels, within a class, a person and a split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.features import image_features
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.data.reading.decoding import Decoder
from fedapt_secure.learning.data.reading.records import UNLABELLED, Record, read_records
from fedapt_secure.protocol.reasons import Reason, reason_of


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of two classes."""
    for number in range(12):
        path = tmp_path / "images" / ("cat" if number < 6 else "dog") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "images"


def copies_of(folder: Path, name: str = "cat/00.png") -> None:
    """Save three copies of a picture: with a note in its file, in another format, and the file as it is."""
    first = folder / name
    note = PngImagePlugin.PngInfo()
    note.add_text("Patient", "DOE^JANE")
    image = Image.open(first)
    image.save(first.with_name("noted.png"), pnginfo=note)
    image.save(first.with_name("other.bmp"))
    first.with_name("same.png").write_bytes(first.read_bytes())


def loaded(folder: Path, tiny, cache: Path | None = None) -> FeatureSet:
    return load_features(read_records(folder).records, tiny, cache)


def names(found: FeatureSet, records: tuple[Record, ...]) -> set[str]:
    return {records[number].name for number in found.record_numbers.tolist()}


def test_four_files_of_a_picture_are_one_record(folder, tmp_path, tiny):
    alone = loaded(folder, tiny)
    copies_of(folder)
    found = loaded(folder, tiny, tmp_path / "cache")
    assert (len(alone.labels), len(found.labels)) == (12, 12)
    assert found.duplicates == Duplicates(merged=3)
    assert sorted(len(one.files) for one in found.pictures) == [1] * 11 + [3], "two of the four are equal"
    assert {one.pixels for one in found.pictures} == {one.pixels for one in alone.pictures}
    reasons = {one.name: one.reason for one in found.skipped}
    assert len(reasons) == 3
    assert all(reason.startswith("duplicate: the same ") for reason in reasons.values())


def test_which_one_stands_for_them_follows_from_the_files_alone(folder, tmp_path, tiny):
    copies_of(folder)
    found = loaded(folder, tiny)
    for path in (folder / "cat").iterdir():
        path.rename(path.with_name(path.name[::-1].replace(".", "-") + path.suffix))
    again = loaded(folder, tiny)
    assert set(found.digests) == set(again.digests)
    assert dict(zip(found.digests, found.is_test.tolist(), strict=True)) == dict(
        zip(again.digests, again.is_test.tolist(), strict=True)
    )


def test_a_picture_in_two_classes_is_in_neither(folder, tiny, caplog):
    copies_of(folder)
    Image.open(folder / "cat" / "00.png").save(folder / "dog" / "slip.bmp")
    records = read_records(folder).records
    found = load_features(records, tiny, None)
    assert found.duplicates == Duplicates(contradictory=5)
    assert len(found.labels) == 11
    reasons = {one.name: one.reason for one in found.skipped}
    assert reasons["dog/slip.bmp"].startswith("contradictory: the same picture as cat/")
    assert reasons["cat/00.png"] == (
        "contradictory: the same picture as dog/slip.bmp, which is in another class"
    )
    assert "dog/slip.bmp" in caplog.text


def test_how_many_copies_there_are_goes_into_no_journal(folder, tiny, caplog):
    copies_of(folder)
    assert loaded(folder, tiny).duplicates.merged == 3
    assert caplog.text == ""


def test_a_copy_without_a_label_is_the_picture_with_one(folder, tiny):
    copies_of(folder)
    records = [
        replace(one, label=UNLABELLED) if one.name in ("cat/00.png", "cat/noted.png") else one
        for one in read_records(folder).records
    ]
    found = load_features(records, tiny, None)
    assert found.duplicates == Duplicates(merged=3)
    assert UNLABELLED not in found.labels.tolist()


@pytest.mark.parametrize("last", ["noted.png", "other.bmp", "same.png"])
def test_what_is_held_out_is_not_trained_on_under_another_name(folder, tiny, last):
    copies_of(folder)
    records = tuple(
        replace(one, split="test" if one.name == f"cat/{last}" else "train")
        for one in read_records(folder).records
    )
    found = load_features(records, tiny, None)
    assert found.is_test.tolist() == [False] * 11 + [True]
    assert f"cat/{last}" in names(found, records)


class TestPersons:
    def records(self, folder: Path, **subjects: str) -> list[Record]:
        return [
            replace(one, subject=subjects.get(Path(one.name).stem, one.name))
            for one in read_records(folder).records
        ]

    def test_copies_of_one_person_are_one_record(self, folder, tiny):
        copies_of(folder)
        same = dict.fromkeys(("00", "noted", "other", "same"), "ada")
        found = load_features(self.records(folder, **same), tiny, None)
        assert found.duplicates.merged == 3
        assert found.subjects.count("ada") == 1

    @pytest.mark.parametrize("name", ["noted", "same"])
    def test_one_picture_of_two_persons_is_refused_with_both_files_and_no_name(self, folder, tiny, name):
        """To leave out the images of one of them would leave the picture where it is."""
        copies_of(folder)
        people = dict.fromkeys(("00", "noted", "other", "same"), "ada") | {name: "bea"}
        with pytest.raises(InvalidInput, match="are the same picture and have different subjects") as caught:
            load_features(self.records(folder, **people), tiny, None)
        assert reason_of(caught.value) is Reason.MANIFEST_INVALID
        assert name in str(caught.value)
        assert "cat/" in str(caught.value)
        assert "ada" not in str(caught.value)
        assert "bea" not in str(caught.value)


def test_pictures_that_look_alike_are_counted_and_used(folder, tiny):
    Image.open(folder / "cat" / "03.png").save(folder / "cat" / "lossy.jpg", quality=85)
    found = loaded(folder, tiny)
    assert len(found.labels) == 13
    assert found.duplicates == Duplicates(alike=2)


class TestKept:
    """What pictures are known by stays in the cache, so that a second run decodes nothing."""

    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        opened: list[Path] = []
        inner = Decoder._opened
        monkeypatch.setattr(
            Decoder, "_opened", lambda self, path, *rest: opened.append(path) or inner(self, path, *rest)
        )
        return opened

    def test_a_second_run_decodes_nothing(self, folder, tmp_path, tiny, decoded):
        copies_of(folder)
        first = loaded(folder, tiny, tmp_path / "cache")
        assert len(decoded) == 14, "each file once, equal ones together"
        decoded.clear()
        second = loaded(folder, tiny, tmp_path / "cache")
        assert decoded == []
        assert (second.pictures, second.duplicates) == (first.pictures, first.duplicates)

    def test_a_cache_of_an_earlier_version_is_completed_by_decoding_alone(
        self, folder, tmp_path, tiny, decoded, monkeypatch
    ):
        copies_of(folder)
        first = loaded(folder, tiny, tmp_path / "cache")
        for path in (tmp_path / "cache" / "marks-2").iterdir():
            path.unlink()
        monkeypatch.setattr(type(tiny), "encode_images", None)
        decoded.clear()
        told: list[tuple[int, int]] = []
        records = read_records(folder).records
        second = load_features(records, tiny, tmp_path / "cache", lambda *done: told.append(done))
        assert len(decoded) == 14
        assert second.pictures == first.pictures
        assert told[-1] == (15, 15)
        decoded.clear()
        loaded(folder, tiny, tmp_path / "cache")
        assert decoded == []

    @pytest.mark.parametrize("damage", [b"", b"rubbish", None])
    def test_what_is_damaged_is_made_again(self, folder, tmp_path, tiny, damage, caplog):
        first = loaded(folder, tiny, tmp_path / "cache")
        (path,) = (tmp_path / "cache" / "marks-2").iterdir()
        path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
        assert loaded(folder, tiny, tmp_path / "cache").pictures == first.pictures
        assert "is damaged and is made again" in caplog.text

    def test_they_are_as_private_as_the_features(self, folder, tmp_path, tiny):
        loaded(folder, tiny, tmp_path / "cache")
        kept = tmp_path / "cache" / "marks-2"
        assert kept.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}

    def test_a_file_that_changes_before_it_is_marked_is_not_used(self, folder, tmp_path, tiny, monkeypatch):
        loaded(folder, tiny, tmp_path / "cache")
        for path in (tmp_path / "cache" / "marks-2").iterdir():
            path.unlink()
        inner = image_features.Encoding.mark_the_others

        def later(self) -> None:
            picture(77).save(folder / "cat" / "00.png")
            inner(self)

        monkeypatch.setattr(image_features.Encoding, "mark_the_others", later)
        found = loaded(folder, tiny, tmp_path / "cache")
        assert [(one.name, one.reason) for one in found.skipped] == [
            ("cat/00.png", "changed while it was read")
        ]
        assert len(found.labels) == 11
