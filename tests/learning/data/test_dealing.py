import numpy as np
import pytest
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.learning.data.records import read_records


def hand_out(tmp_path, dataset="digits", clients=5, seed=0, data_root=None):
    return deal_dataset(dataset, clients, seed, data_root, lambda name: tmp_path / name)


def contents(institution):
    return {record.path.name: record.path.read_bytes() for record in read_records(institution.data).records}


def test_digits_are_dealt_once_each_over_five_domains(digits):
    assert digits.domains == ("ink", "chalk", "print", "pencil", "scan")
    assert [one.name for one in digits.institutions] == [f"clinic-{number}" for number in range(1, 6)]
    assert [one.domain_index for one in digits.institutions] == [0, 1, 2, 3, 4]
    names = [name for one in digits.institutions for name in contents(one)]
    assert len(names) == len(set(names)) == 1797
    assert digits.zero_shot_template == "a photo of a digit {}"
    assert set(read_records(digits.institutions[0].data).class_names) == set(digits.class_names)


def test_the_seed_decides_the_deal(tmp_path, digits):
    same, other = hand_out(tmp_path / "same"), hand_out(tmp_path / "other", seed=1)
    assert contents(same.institutions[4]) == contents(digits.institutions[4])
    assert contents(other.institutions[4]).keys() != contents(digits.institutions[4]).keys()


def test_flipped_digits_turn_chalk_and_scan_alone(tmp_path, digits):
    flipped = hand_out(tmp_path, "digits-flipped")
    for institution, upright in zip(flipped.institutions, digits.institutions, strict=True):
        record = read_records(institution.data).records[0]
        twin = read_records(upright.data).records[0]
        assert record.name == twin.name
        turns = 2 if institution.domain_index in {1, 4} else 0
        np.testing.assert_array_equal(
            np.asarray(Image.open(record.path)), np.rot90(np.asarray(Image.open(twin.path)), turns)
        )


@pytest.mark.parametrize(("clients", "domains"), [(1, 1), (3, 3), (7, 5)])
def test_other_numbers_of_institutions(tmp_path, clients, domains):
    dealt = hand_out(tmp_path, clients=clients)
    assert len(dealt.domains) == domains
    assert [one.domain_index for one in dealt.institutions] == [number % domains for number in range(clients)]
    assert sum(len(contents(one)) for one in dealt.institutions) == 1797


@pytest.mark.parametrize("clients", [-1, 21, 1000])
def test_too_many_institutions_are_refused_with_the_reason(tmp_path, clients):
    with pytest.raises(InvalidInput, match="too few to train on privately"):
        hand_out(tmp_path, clients=clients)


@pytest.fixture
def domains_folder(tmp_path):
    """Three domains of two classes, real JPEG and PNG files, the names in odd order."""
    root = tmp_path / "root"
    rng = np.random.default_rng(0)
    for domain in ("sketch", "art_work", "photo"):
        for name in ("guitar", "fire_truck"):
            for number in range(4):
                path = root / domain / name / f"{number}.{'png' if number % 2 else 'jpeg'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    return root


def test_a_folder_is_dealt_by_domain(tmp_path, domains_folder):
    dealt = hand_out(tmp_path / "out", "folder", 5, 0, domains_folder)
    assert dealt.domains == ("art_work", "photo", "sketch")
    assert dealt.class_names == ("fire_truck", "guitar")
    assert dealt.zero_shot_template == "a photo of a {}"
    assert [one.domain_index for one in dealt.institutions] == [0, 1, 2, 0, 1]
    held = [{record.path for record in read_records(one.data).records} for one in dealt.institutions]
    assert sum(len(paths) for paths in held) == len(set().union(*held)) == 24
    assert held[0] | held[3] == set((domains_folder / "art_work").rglob("*.*"))
    assert all(path.is_absolute() for paths in held for path in paths)
    for one in dealt.institutions:
        for record in read_records(one.data, dealt.class_names).records:
            assert record.path.parent.name == dealt.class_names[record.label]


def test_a_folder_gives_one_institution_a_domain_by_default(tmp_path, domains_folder):
    assert len(hand_out(tmp_path / "out", "folder", None, 0, domains_folder).institutions) == 3
    assert hand_out(tmp_path / "two", "folder", 2, 0, domains_folder).domains == ("art_work", "photo")


def test_the_folder_deal_is_seeded(tmp_path, domains_folder):
    def first(name, seed):
        dealt = hand_out(tmp_path / name, "folder", 6, seed, domains_folder)
        return [
            sorted(record.path for record in read_records(one.data).records) for one in dealt.institutions
        ]

    assert first("a", 0) == first("b", 0) != first("c", 1)


def test_differing_class_lists_are_named(tmp_path, domains_folder):
    (domains_folder / "photo" / "guitar").rename(domains_folder / "photo" / "violin")
    with pytest.raises(InvalidInput, match="photo lacks guitar; photo has violin and art_work has not"):
        hand_out(tmp_path / "out", "folder", None, 0, domains_folder)


def test_unusable_folders_are_refused(tmp_path, domains_folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ("needs the folder", {"data_root": None}),
        ("No such file", {"data_root": tmp_path / "nowhere"}),
        ("no domain folder", {"data_root": empty}),
        ("at least one institution", {"data_root": domains_folder, "clients": 0}),
        ("8 images for 9 institutions", {"data_root": domains_folder, "clients": 27}),
    ]
    for message, options in cases:
        with pytest.raises(InvalidInput, match=message):
            hand_out(tmp_path / "out", "folder", **({"clients": None} | options))
    with pytest.raises(InvalidInput, match="no data set letters"):
        hand_out(tmp_path / "out", "letters")
