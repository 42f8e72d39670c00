import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedapt_secure.learning.data.digits import CLASS_NAMES, deal, scan_count, write_digits
from fedapt_secure.learning.data.styles import STYLES


@given(count=st.integers(0, 300), clients=st.integers(1, 20), seed=st.integers(0, 100))
def test_a_deal_is_disjoint_complete_even_and_seeded(count, clients, seed):
    shares = deal(count, clients, np.random.default_rng(seed))
    assert sorted(np.concatenate(shares).tolist()) == list(range(count))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    again = deal(count, clients, np.random.default_rng(seed))
    assert all(np.array_equal(one, other) for one, other in zip(shares, again, strict=True))


def test_another_seed_deals_otherwise():
    first, second = (deal(100, 5, np.random.default_rng(seed))[0].tolist() for seed in (0, 1))
    assert first != second


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
