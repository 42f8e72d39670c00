"""An institution's images without labels: loose in a folder, in a manifest, or partly labelled."""

import pytest
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.records import UNLABELLED, read_records, read_unlabelled

CLASSES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path):
    def put(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.new("RGB", (4, 4)).save(path)
        return tmp_path

    return put


def labels(found):
    return {record.name: record.label for record in found.records}


def test_images_may_lie_loose_beside_class_folders(folder):
    source = folder("a.png", "b.png", "dog/c.png")
    assert labels(read_unlabelled(source, CLASSES)) == {
        "a.png": UNLABELLED,
        "b.png": UNLABELLED,
        "dog/c.png": 1,
    }
    assert read_unlabelled(source).class_names == ("dog",)
    assert labels(read_records(source, CLASSES)) == {"dog/c.png": 1}  # with labels nothing has changed


def test_a_folder_that_is_no_class_is_refused(folder):
    with pytest.raises(InvalidInput, match="unknown class 'doge' .*directly into the folder"):
        read_unlabelled(folder("a.png", "doge/c.png"), CLASSES)


@pytest.mark.parametrize("header", ["path,label", "label,path,split,subject", "path"])
def test_a_manifest_may_leave_labels_out(folder, header):
    source = folder("a.png", "b.png") / "images.csv"
    rows = {"a.png": "", "b.png": "dog"}
    lines = [
        ",".join(
            {"path": name, "label": label, "split": "test", "subject": "p1"}[one] for one in header.split(",")
        )
        for name, label in rows.items()
    ]
    source.write_text("\n".join([header, *lines]))
    found = labels(read_unlabelled(source, CLASSES))
    assert found == {"a.png": UNLABELLED, "b.png": 1 if "label" in header else UNLABELLED}
    with pytest.raises(InvalidInput, match="label"):
        read_records(source, CLASSES)


def test_nothing_there_is_said(folder):
    source = folder("a.png")
    (source / "a.png").rename(source / "a.txt")
    with pytest.raises(InvalidInput, match="there is no image in"):
        read_unlabelled(source, CLASSES)
