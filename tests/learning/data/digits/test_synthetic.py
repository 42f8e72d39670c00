"""Digits for more institutions than there are scans for."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedapt_secure.learning.data.dealing import MAX_DIGIT_CLIENTS, DealOptions, DealtDataset, deal_dataset
from fedapt_secure.learning.data.digits.scans import scan_labels
from fedapt_secure.learning.data.digits.styles import STYLES, draw
from fedapt_secure.learning.data.digits.synthetic import SCANS_EACH, Hand, draw_scans
from fedapt_secure.learning.data.reading.records import read_records

CLIENTS = 23


def deal(folder: Path, clients: int = CLIENTS, seed: int = 0, **options: object) -> DealtDataset:
    return deal_dataset("digits", clients, seed, None, lambda name: folder / name, DealOptions(**options))


def contents(folder: Path) -> dict[str, bytes]:
    return {record.name: record.path.read_bytes() for record in read_records(folder).records}


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> DealtDataset:
    return deal(tmp_path_factory.mktemp("synthetic"))


def test_more_institutions_than_scans_draw_their_own_from_all_of_them(dealt: DealtDataset) -> None:
    assert dealt.synthetic
    assert dealt.domains == tuple(STYLES)
    assert [one.domain_index for one in dealt.institutions] == [number % 5 for number in range(CLIENTS)]
    held = [contents(one.data) for one in dealt.institutions]
    assert all(len(one) == SCANS_EACH for one in held), "none twice at one institution"
    common = set(held[0]) & set(held[5])
    assert common, "though two of them may have the same scan"
    for name in common:
        assert held[0][name] != held[5][name], "each in a hand of its own"


def test_up_to_twenty_share_the_scans_out(tmp_path: Path) -> None:
    shared_out = deal(tmp_path, MAX_DIGIT_CLIENTS)
    assert not shared_out.synthetic
    names = [name for one in shared_out.institutions for name in contents(one.data)]
    assert len(names) == len(set(names)) == 1797


def test_the_seed_decides_and_more_institutions_move_nobodys_scans(
    tmp_path: Path, dealt: DealtDataset
) -> None:
    larger, other = deal(tmp_path / "larger", CLIENTS + 3), deal(tmp_path / "other", seed=1)
    for number in (0, 11, CLIENTS - 1):
        mine = contents(dealt.institutions[number].data)
        assert contents(larger.institutions[number].data) == mine
        assert contents(other.institutions[number].data).keys() != mine.keys()


def test_classes_can_be_skewed(tmp_path: Path) -> None:
    skewed = deal(tmp_path, dirichlet=0.05)
    for one in skewed.institutions:
        classes = Counter(record.label for record in read_records(one.data).records)
        assert sum(classes.values()) == SCANS_EACH
    largest = [
        max(Counter(record.label for record in read_records(one.data).records).values())
        for one in skewed.institutions
    ]
    assert np.median(largest) > SCANS_EACH / 2


@pytest.mark.parametrize("alpha", [None, 1e-6, 0.1, 1e6])
def test_scans_are_drawn_once_each(alpha: float | None) -> None:
    labels = scan_labels()
    drawn = draw_scans(labels, alpha, np.random.default_rng(3))
    assert len(drawn) == len(set(drawn.tolist())) == SCANS_EACH
    assert 0 <= drawn.min() <= drawn.max() < len(labels)


def test_hands_differ_and_stay_within_a_picture() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((32, 32), np.float32)
    mask[6:26, 15:17] = 1.0
    hands = [Hand.fresh(rng) for _ in range(20)]
    assert len({(hand.slant, hand.weight, *hand.gain, *hand.shift) for hand in hands}) == 20
    for hand in hands:
        written = hand.write(mask)
        assert written.shape == mask.shape
        assert 0.0 <= written.min() <= written.max() <= 1.0
        top, bottom = (float(np.average(range(32), weights=written[row])) for row in (8, 23))
        assert np.sign(top - bottom) == np.sign(hand.slant), "it leans to the right where slant is positive"
        seen = hand.photograph(draw(np.random.default_rng(1), written, "print"))
        assert seen.dtype == np.float32
        assert 0.0 <= seen.min() <= seen.max() <= 1.0


def test_pictures_are_ordinary_images(dealt: DealtDataset) -> None:
    for record in read_records(dealt.institutions[7].data).records[:5]:
        with Image.open(record.path) as image:
            assert image.size == (32, 32)
            assert image.mode == "RGB"
