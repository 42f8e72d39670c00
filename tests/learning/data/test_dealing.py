import io
import shutil
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.dealing import DealOptions, deal_dataset
from fedapt_secure.learning.data.layouts.pacs import PACS
from fedapt_secure.learning.data.reading.records import is_test_record, read_records
from fedapt_secure.simulate.results.balance_table import print_balance
from tests.learning.data.trees import write_domains


def hand_out(tmp_path, dataset="digits", clients=5, seed=0, data_root=None, **options):
    return deal_dataset(
        dataset, clients, seed, data_root, lambda name: tmp_path / name, DealOptions(**options)
    )


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


@pytest.mark.parametrize("clients", [-1, 0])
def test_no_institution_is_refused(tmp_path, clients):
    with pytest.raises(InvalidInput, match="at least one institution"):
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
    with pytest.raises(
        InvalidInput, match="photo against the others: unknown class 'violin'; missing 'guitar'"
    ):
        hand_out(tmp_path / "out", "folder", None, 0, domains_folder)


def test_a_domain_may_lack_a_class_and_is_told_so(tmp_path, domains_folder):
    shutil.rmtree(domains_folder / "photo" / "guitar")
    (domains_folder / "sketch" / "guitar").rename(domains_folder / "sketch" / "Guitar ")
    dealt = hand_out(tmp_path / "out", "folder", None, 0, domains_folder)
    assert dealt.class_names == ("fire_truck", "guitar")
    labels = [
        {record.label for record in read_records(one.data, dealt.class_names).records}
        for one in dealt.institutions
    ]
    assert dict(zip(dealt.domains, labels, strict=True)) == {
        "art_work": {0, 1},
        "photo": {0},
        "sketch": {0, 1},
    }
    out = io.StringIO()
    print_balance(Console(file=out, width=120), dealt)
    assert "clinic-2 has no image of: guitar" in out.getvalue()


def test_unusable_folders_are_refused(tmp_path, domains_folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ("needs the folder", {"data_root": None}),
        ("No such file", {"data_root": tmp_path / "nowhere"}),
        ("no domain folder", {"data_root": empty}),
        ("at least one institution", {"data_root": domains_folder, "clients": 0}),
        (
            "domain 'art_work': 8 images are too few for 9 institutions",
            {"data_root": domains_folder, "clients": 27},
        ),
    ]
    for message, options in cases:
        with pytest.raises(InvalidInput, match=message):
            hand_out(tmp_path / "out", "folder", **({"clients": None} | options))
    with pytest.raises(InvalidInput, match="no data set letters"):
        hand_out(tmp_path / "out", "letters")


def labels_of(institution, dealt):
    return [record.label for record in read_records(institution.data, dealt.class_names).records]


@pytest.mark.parametrize("alpha", [None, pytest.param(0.05, marks=pytest.mark.slow)])
def test_several_clinics_a_style(tmp_path, alpha):
    dealt = hand_out(
        tmp_path, clients=None, institutions_per_domain=2, domains=("scan", "ink"), dirichlet=alpha
    )
    assert dealt.domains == ("ink", "scan")
    assert [(one.name, one.domain_index) for one in dealt.institutions] == [
        ("clinic-1", 0), ("clinic-2", 1), ("clinic-3", 0), ("clinic-4", 1),
    ]  # fmt: skip
    names = [name for one in dealt.institutions for name in contents(one)]
    assert len(names) == len(set(names)) == 1797
    present = [len(set(labels_of(one, dealt))) for one in dealt.institutions]
    assert all(count == 10 for count in present) if alpha is None else all(count < 10 for count in present)
    again = hand_out(
        tmp_path / "again", clients=None, institutions_per_domain=2, domains=("ink", "scan"), dirichlet=alpha
    )
    assert [contents(one) for one in again.institutions] == [contents(one) for one in dealt.institutions]


def test_a_folder_is_skewed_within_its_domains(tmp_path, domains_folder):
    dealt = hand_out(
        tmp_path / "out", "folder", None, 0, domains_folder, institutions_per_domain=3, dirichlet=0.01
    )
    assert len(dealt.institutions) == 9
    held = [{record.path for record in read_records(one.data).records} for one in dealt.institutions]
    assert all(held)
    assert sum(map(len, held)) == len(set().union(*held)) == 24
    assert held[0] | held[3] | held[6] == set((domains_folder / "art_work").rglob("*.*"))
    assert min(len(set(labels_of(one, dealt))) for one in dealt.institutions) == 1


def test_skew_needs_several_institutions_in_a_domain(tmp_path, domains_folder):
    for clients in (None, 3):
        with pytest.raises(InvalidInput, match="dirichlet .* give institutions_per_domain"):
            hand_out(tmp_path / "out", "folder", clients, 0, domains_folder, dirichlet=1.0)
    with pytest.raises(InvalidInput, match="dirichlet"):
        hand_out(tmp_path / "out", clients=5, dirichlet=1.0)


def test_a_named_data_set_and_some_of_its_domains(tmp_path):
    root = write_domains(tmp_path / "PACS", PACS.domains, PACS.class_names)
    dealt = hand_out(
        tmp_path / "out", "pacs", None, 0, root, domains=("Sketch", "photo"), template="imagenet"
    )
    assert dealt.domains == ("photo", "sketch")
    assert dealt.class_names == tuple(sorted(PACS.class_names))
    assert dealt.zero_shot_template == "imagenet"
    assert [len(contents(one)) for one in dealt.institutions] == [3, 3]  # one name in several folders
    assert [len(labels_of(one, dealt)) for one in dealt.institutions] == [21, 21]


def test_splits_and_subjects_reach_the_institutions(tmp_path, domains_folder):
    rows = [
        ",".join(
            [
                str(path.relative_to(tmp_path)),
                *path.parts[-2:-4:-1],
                "train" if i % 4 else "test",
                f"p{i // 3}",
            ]
        )
        for i, path in enumerate(sorted(domains_folder.rglob("*.*")))
    ]
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(["path,label,domain,split,subject", *rows]))
    dealt = hand_out(tmp_path / "out", "folder", None, 0, manifest, institutions_per_domain=2)
    assert dealt.domains == ("art_work", "photo", "sketch")
    records = [
        one for each in dealt.institutions for one in read_records(each.data, dealt.class_names).records
    ]
    said = {row.split(",")[0]: row.split(",")[3:] for row in rows}
    assert len(records) == 24
    for record in records:
        assert said[str(record.path.relative_to(tmp_path))] == [record.split, record.subject]
    for institution in dealt.institutions:
        assert (institution.data.stat().st_mode & 0o077) == 0


@pytest.mark.parametrize("dataset", [pytest.param("digits", marks=pytest.mark.slow), "folder"])
def test_few_shot_keeps_tests_and_some_of_each_class(tmp_path, domains_folder, dataset):
    root = domains_folder if dataset == "folder" else None
    whole = hand_out(tmp_path / "whole", dataset, None, 0, root)
    few = hand_out(tmp_path / "few", dataset, None, 0, root, few_shot=2)
    for one, other in zip(few.institutions, whole.institutions, strict=True):
        kept, there = read_records(one.data, few.class_names), read_records(other.data, whole.class_names)

        def split(records):
            marked = [
                (record.label, is_test_record(record, sha256(record.path.read_bytes()).digest()))
                for record in records.records
            ]
            return [label for label, test in marked if test], [label for label, test in marked if not test]

        assert sorted(split(kept)[0]) == sorted(split(there)[0])
        assert {label: min(2, split(there)[1].count(label)) for label in split(there)[1]} == {
            label: split(kept)[1].count(label) for label in split(kept)[1]
        }


def test_a_single_class_is_nothing_to_tell_apart(tmp_path):
    root = write_domains(tmp_path / "root", ("a", "b"), ("cat",))
    with pytest.raises(InvalidInput, match="there is one class only, 'cat'"):
        hand_out(tmp_path / "out", "folder", None, 0, root)


def test_a_name_that_cannot_be_shown_is_refused(tmp_path):
    root = write_domains(tmp_path / "root", ("a", "b"), ("cat", "d\x1bog"))
    with pytest.raises(InvalidInput, match="cannot be shown: rename it"):
        hand_out(tmp_path / "out", "folder", None, 0, root)


def test_what_is_no_file_is_reported(tmp_path, domains_folder):
    (domains_folder / "photo" / "guitar" / "x.png").mkdir()
    dealt = hand_out(tmp_path / "out", "folder", None, 0, domains_folder)
    assert [(one.name, one.reason) for one in dealt.left_out] == [
        ("photo/guitar/x.png", "a folder, not a file")
    ]


@pytest.mark.parametrize("source", ["digits", "folder"])
def test_an_unseen_domain_takes_nothing_from_the_others(tmp_path, source):
    root = (
        write_domains(tmp_path / "data", ("a", "b", "c", "d"), ("cat", "dog"), 12)
        if source == "folder"
        else None
    )
    name = "b" if source == "folder" else "Chalk"
    wanted = {"dataset": source, "clients": None, "data_root": root, "institutions_per_domain": 2}
    full = hand_out(tmp_path / "full", **wanted)
    held = hand_out(tmp_path / "held", **wanted, unseen_domain=name)
    assert held.unseen_domain == name.lower()
    assert held.domains == tuple(one for one in full.domains if one != name.lower())
    assert {one.name for one in held.institutions} | {one.name for one in held.unseen} == {
        one.name for one in full.institutions
    }
    assert len(held.unseen) == 2
    twins = {one.name: one for one in full.institutions}
    for one in held.institutions:
        twin = twins[one.name]
        assert held.domains[one.domain_index] == full.domains[twin.domain_index]
        assert contents(one) == contents(twin)
    for one in held.unseen:
        assert full.domains[twins[one.name].domain_index] == name.lower()
        assert contents(one) == contents(twins[one.name])


def test_few_shot_leaves_the_unseen_domain_whole(tmp_path):
    root = write_domains(tmp_path / "data", ("a", "b"), ("cat", "dog"), 20)
    held = hand_out(tmp_path, "folder", None, data_root=root, unseen_domain="b", few_shot=1)
    assert len(read_records(held.unseen[0].data).records) == 40
    assert len(read_records(held.institutions[0].data).records) < 40


def test_an_unseen_domain_that_is_none_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="has no domain 'marble': it has ink, chalk"):
        hand_out(tmp_path, unseen_domain="marble")
