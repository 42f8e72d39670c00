import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fedapt_secure.learning.data.digits.scans import CLASS_NAMES, _scans, scan_count, write_digits
from fedapt_secure.learning.data.digits.styles import STYLES


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("domain", sorted(STYLES))
def test_scans_become_pictures_in_their_class_folder(tmp_path, domain):
    write_digits(tmp_path, domain, [0, 1, 1796], False, np.random.default_rng(0))
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert written == ["eight/digit-1797.png", "one/digit-0002.png", "zero/digit-0001.png"]
    for name in written:
        assert pixels(tmp_path / name).shape == (32, 32, 3)
    assert pixels(tmp_path / written[0]).std() > 10


def test_upside_down_is_the_same_page_turned(tmp_path):
    for name, turned in (("upright", False), ("turned", True)):
        write_digits(tmp_path / name, "scan", [5, 6], turned, np.random.default_rng(3))
    upright = sorted((tmp_path / "upright").rglob("*.png"))
    assert len(upright) == 2
    for path in upright:
        other = tmp_path / "turned" / path.relative_to(tmp_path / "upright")
        np.testing.assert_array_equal(pixels(other), np.rot90(pixels(path), 2))


def test_there_are_1797_scans_of_ten_digits():
    assert scan_count() == 1797
    assert len(set(CLASS_NAMES)) == 10


def test_the_shipped_scans_are_those_of_scikit_learn():
    theirs = load_digits()
    scans, labels = _scans()
    np.testing.assert_array_equal(scans, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)
