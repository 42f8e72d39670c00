"""Frames and people out of DICOM headers; and features that are found again under the same options alone."""

import numpy as np
import pytest
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.reading import ReadingOptions
from fedapt_secure.learning.data.dealing import DealOptions, deal_dataset
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.features.pixels import training_images
from fedapt_secure.learning.data.features.store import MARKS, clear
from fedapt_secure.learning.data.reading import images
from fedapt_secure.learning.data.reading.inside import NO_HEADER
from fedapt_secure.learning.data.reading.medical.headers import NO_PERSON
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.learning.data.reading.records import is_test_record, read_records
from fedapt_secure.learning.data.reading.unusable import LacksReader
from fedapt_secure.learning.data.reading.unused import unused_files, usage
from tests.learning.data.reading.medical.made import made

ALL = ReadingOptions(frame="all")
KEY = PatientKey(bytes(range(32)))


def volume(number, frames=3):
    rng = np.random.default_rng(number)
    return rng.integers(0, 4096, (frames, 24, 24)).astype(np.uint16)[0 if frames == 1 else slice(None)]


@pytest.fixture
def folder(tmp_path):
    """Two people, three files of three frames, one of one frame, one without PatientID, one PNG."""
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
    root = tmp_path / "images"
    (root / "cat" / "1").write_bytes(made(volume(1), PatientID="Ada"))
    (root / "cat" / "2").write_bytes(made(volume(2), PatientID="Ada "))
    (root / "dog" / "3.dcm").write_bytes(made(volume(3), PatientID="ada"))
    (root / "dog" / "4.dcm").write_bytes(made(volume(4, 1), PatientID="Ada"))
    (root / "dog" / "5.dcm").write_bytes(made(volume(5, 1), PatientID=None))
    Image.fromarray(volume(6, 1).astype(np.uint8)).save(root / "dog" / "6.png")
    return root


class TestPeople:
    def test_equal_ids_are_one_subject_and_nothing_else_is(self, folder):
        found = read_records(folder, people=KEY)
        subjects = {record.name: record.subject for record in found.records}
        assert subjects.keys() == {"cat/1", "cat/2", "dog/3.dcm", "dog/4.dcm"}
        assert subjects["cat/1"] == subjects["cat/2"] == subjects["dog/4.dcm"] != subjects["dog/3.dcm"]
        assert {(one.name, one.reason) for one in found.left_out} == {
            ("dog/5.dcm", NO_PERSON), ("dog/6.png", NO_HEADER),
        }  # fmt: skip
        assert usage(folder, found, unused_files(folder, found), ()).unused_files == 2

    def test_the_subject_is_a_keyed_hash(self, folder):
        other = read_records(folder, people=PatientKey(bytes(32)))
        subjects = {record.subject for record in read_records(folder, people=KEY).records}
        assert not subjects & {record.subject for record in other.records}
        assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in subjects)
        assert "Ada" not in repr(read_records(folder, people=KEY))
        assert "hidden" in repr(KEY)

    def test_a_person_is_on_one_side(self, folder):
        records = read_records(folder, reading=ALL, people=KEY).records
        sides = {one.subject: set() for one in records}
        for number, one in enumerate(records):
            sides[one.subject].add(is_test_record(one, bytes([number]) * 32))
        assert all(len(one) == 1 for one in sides.values())

    def test_a_manifest_s_column_and_headers_exclude_each_other(self, folder, tmp_path):
        manifest = tmp_path / "images.csv"
        manifest.write_text("path,label,subject\nimages/cat/1,cat,x\n")
        with pytest.raises(InvalidInput, match="column subject"):
            read_records(manifest, people=KEY)
        manifest.write_text("path,label\nimages/cat/1,cat\nimages/dog/3.dcm,dog\nimages/dog/5.dcm,dog\n")
        found = read_records(manifest, people=KEY)
        assert len({record.subject for record in found.records}) == 2
        assert [one.reason for one in found.left_out] == [NO_PERSON]

    def test_where_nobody_is_known_nothing_is_read(self, folder):
        for name in ("cat/1", "cat/2", "dog/3.dcm", "dog/4.dcm"):
            (folder / name).unlink()
        with pytest.raises(
            InvalidInput, match=r"none of the 2 images .* can be used; the first, dog/5\.dcm: no Pat"
        ):
            read_records(folder, people=KEY)


class TestDealing:
    def test_people_of_a_domain_stay_together_and_manifests_name_nobody(self, tmp_path):
        for label in ("cat", "dog"):
            (tmp_path / "root" / "a" / label).mkdir(parents=True)
            for number in range(8):
                content = made(volume(number + 8 * (label == "dog"), 1), PatientID=f"Ada {number // 2}")
                (tmp_path / "root" / "a" / label / f"{number}").write_bytes(content)
        (tmp_path / "root" / "a" / "dog" / "nobody").write_bytes(made(volume(99, 1), PatientID=None))
        options = DealOptions(institutions_per_domain=2, people=KEY)
        dealt = deal_dataset("folder", None, 0, tmp_path / "root", lambda name: tmp_path / name, options)
        assert [one.reason for one in dealt.left_out] == [NO_PERSON]
        people = []
        for one in dealt.institutions:
            assert "Ada" not in one.data.read_text()
            people.append({record.subject for record in read_records(one.data).records})
        assert not people[0] & people[1]
        assert people[0] | people[1] == {KEY.subject(f"Ada {number}") for number in range(4)}


class TestFrames:
    def test_each_is_a_record_of_its_file(self, folder, tiny):
        records = read_records(folder, reading=ALL).records
        assert len(records) == 3 * 3 + 3
        assert "cat/1 (frame 2)" in [record.name for record in records]
        features = load_features(records, tiny, None, reading=ALL)
        assert len(features.features) == len(set(features.digests)) == 12
        assert len(set(features.contents)) == 6
        # The ledger knows a frame by its file: a file that was used is known whatever frame is.
        assert {one.files for one in features.pictures} == {(one,) for one in set(features.contents)}

    def test_they_are_kept_apart_and_found_again(self, folder, tiny, tmp_path):
        records = read_records(folder, reading=ALL).records
        fresh = load_features(records, tiny, None, reading=ALL).features
        for _ in range(2):
            kept = load_features(records, tiny, tmp_path / "cache", reading=ALL)
            assert (kept.features - fresh).abs().max() < 1e-5
        source = training_images(records, kept, tiny, ALL)
        rows = int((~kept.is_test).sum())
        if rows:
            numbers = kept.record_numbers[~kept.is_test]
            pixels = source(numbers.new_tensor(range(rows)))
            assert (tiny.encode_images(pixels) - kept.train[0]).abs().max() < 1e-4


class TestCache:
    def test_another_window_never_meets_the_features_of_the_first(self, folder, tiny, tmp_path, monkeypatch):
        cache = tmp_path / "cache"
        records = read_records(folder).records
        options = [ReadingOptions(), ReadingOptions(window="500,800"), ReadingOptions(frame=1)]
        options += [ReadingOptions(axis=0), ReadingOptions(slice=2)]
        found = [load_features(records, tiny, cache, reading=one) for one in options]
        assert len({one.pictures[0].pixels for one in found[:3]}) > 1
        assert (found[0].features - found[1].features).abs().max() > 1e-3
        stores = [path for path in cache.iterdir() if (path / "about.json").exists()]
        marks = [path.name for path in cache.glob("marks-*")]
        assert len(stores) == len(marks) == len(options)
        assert MARKS in marks
        for one, before in zip(options, found, strict=True):
            again = load_features(records, tiny, cache, reading=one)
            assert (again.features == before.features).all()
            assert [x.pixels for x in again.pictures] == [x.pixels for x in before.pictures]
        clear(cache)
        assert not list(cache.glob("marks-*"))

    def test_a_missing_library_is_not_remembered(self, folder, tiny, tmp_path, monkeypatch):
        def missing(*_):
            raise LacksReader("not installed")

        records = read_records(folder).records
        with monkeypatch.context() as patch:
            patch.setattr(images.dicom, "open_dicom", missing)
            without = load_features(records, tiny, tmp_path / "cache")
        assert len(without.features) == 1
        assert len(load_features(records, tiny, tmp_path / "cache").features) == 6
