"""No file is passed over in silence: each is used or counted, and too many of these are a refusal."""

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.dealing import DealOptions, deal_dataset
from fedapt_secure.learning.data.reading.listing import LeftOut
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.data.reading.unused import Usage, count_usage, unused_files, usage
from fedapt_secure.protocol.reasons import Reason, reason_of
from tests.learning.data.trees import write_classes, write_domains

ODD = {
    "notes.txt": "not an image's suffix",
    "cat/IM01": "not an image's suffix",
    "cat/more/deep.png": "too deep",
    "loose.png": "in no class",
    "cat/.hidden.png": "hidden",
    ".DS_Store": "left by a system",
    "cat/Thumbs.db": "left by a system",
    "__MACOSX/cat/x.png": "left by a system",
}


@pytest.fixture
def folder(tmp_path):
    write_classes(tmp_path / "images", ("cat", "dog"), 8)
    for name in ODD:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"?")
    return tmp_path / "images"


def test_every_file_is_used_or_has_a_reason(folder):
    records = read_records(folder)
    unused = unused_files(folder, records)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {record.name for record in records.records} | {one.name for one in unused} == files
    for one in unused:
        assert one.reason.startswith(ODD[one.name])
    found = usage(folder, records, unused, [LeftOut("x", "broken"), LeftOut("y", "duplicate: the same")])
    assert found == Usage(
        15,
        (("not an image's suffix", 2), ("broken", 1), ("in no class", 1), ("too deep", 1)),
        litter=4,
    )
    assert found.share == 5 / 20
    assert found.in_words() == (
        "5 of 20 files are not used: 2 not an image's suffix, 1 broken, 1 in no class and 1 more reasons"
    )


def test_a_little_is_said_and_too_much_refused():
    few = count_usage(199, [LeftOut("a", "broken: why")])
    assert few.warning is None
    more = count_usage(90, [LeftOut("a", "broken: why")] * 10)
    assert more.warning == "10 of 100 files are not used: 10 broken"
    more.check(0.1, "max_unused in the policy")
    with pytest.raises(
        InvalidInput, match=r"^10 of 100 .*more than 9% \(max_unused in the policy\): take"
    ) as told:
        more.check(0.09, "max_unused in the policy")
    assert reason_of(told.value) is Reason.DATA_UNREADABLE
    assert "\n" not in str(told.value)
    count_usage(0, [LeftOut("a", "hidden: dot")] * 9).check(0, "x")


def test_what_a_manifest_does_not_name_does_not_count(folder, tmp_path):
    manifest = tmp_path / "images.csv"
    manifest.write_text("path,label\nimages/cat/000.jpg,cat\nimages/dog/000.jpg,dog\n")
    records = read_records(manifest)
    unused = unused_files(manifest, records)
    assert len(unused) > 5
    assert usage(manifest, records, unused, ()) == Usage(2)


def test_a_data_set_of_which_too_much_is_of_no_use(tmp_path):
    root = write_domains(tmp_path / "root", ("a", "b", "c"), ("cat", "dog"), 4)
    for number in range(8):
        (root / "a" / f"{number}.txt").write_text("no image")
    (root / "b" / ".DS_Store").write_text("")

    def deal(**options):
        return deal_dataset("folder", None, 0, root, lambda name: tmp_path / name, DealOptions(**options))

    with pytest.raises(InvalidInput, match=r"8 of 32 files are not used.*more than 20% \(--max-unused\)"):
        deal(max_unused=0.2)
    assert len(deal(max_unused=0.25).left_out) == 9
    assert len(deal(max_unused=0.2, domains=("b", "c")).left_out) == 1, "other domains do not count"
