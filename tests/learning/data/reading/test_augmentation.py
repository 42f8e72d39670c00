"""Augmented views: what they do, that they repeat, and that they follow from image and view alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_secure.config.unsupervised import AUGMENTATIONS
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.augmentation import Views, aligned, augmentation, view_name
from fedapt_secure.learning.data.reading.records import read_records

DRAWS = 60


@pytest.fixture(scope="module")
def picture():
    values = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return Image.fromarray(values)


def drawn(names, tiny, picture):
    transform = augmentation(names, tiny)
    return [np.asarray(transform(picture, np.random.default_rng(seed))) for seed in range(DRAWS)]


def test_each_change_happens_by_its_own_chance(tiny, picture):
    plain = drawn((), tiny, picture)[0]
    side = tiny.preprocess(picture).shape[-1]
    assert plain.shape == (side, side, 3)
    views = {name: drawn((name,), tiny, picture) for name in AUGMENTATIONS}
    shares = {
        name: np.mean([not np.array_equal(one, plain) for one in views[name]]) for name in AUGMENTATIONS
    }
    for name, expected in {"flip": 0.5, "jitter": 0.8, "greyscale": 0.2, "blur": 0.2}.items():
        assert abs(shares[name] - expected) < 0.2, name
    changed = {name: [one for one in views[name] if not np.array_equal(one, plain)] for name in views}
    assert all(np.array_equal(one[:, ::-1], plain) for one in changed["flip"])
    assert all((one[..., 0] == one[..., 1]).all() for one in changed["greyscale"])
    assert all(one.astype(float).std() < plain.std() for one in changed["blur"])


def test_a_view_repeats_and_another_differs(tiny, digits, tmp_path):
    records = read_records(digits.institutions[0].data, digits.class_names).records[:12]
    transform = augmentation(AUGMENTATIONS, tiny)
    views = [
        load_features(records, tiny, None, view=view_name(AUGMENTATIONS, number), transform=transform)
        for number in (0, 0, 1)
    ]
    assert torch.equal(views[0].features, views[1].features)
    assert not torch.equal(views[0].features, views[2].features)
    alone = load_features(records[3:4], tiny, None, view=view_name(AUGMENTATIONS, 0), transform=transform)
    row = views[0].digests.index(alone.digests[0])
    torch.testing.assert_close(alone.features[0], views[0].features[row])


def test_views_come_in_turn():
    views = Views([torch.full((4, 2), float(number)) for number in range(3)])
    batch = torch.tensor([1, 3])
    assert [int(views.take(batch)[0, 0]) for _ in range(4)] == [0, 1, 2, 0]
    assert views.take(batch[:0]).shape == (0, 2)


def test_records_without_a_view_keep_their_plain_features():
    plain, found = torch.arange(6.0).reshape(3, 2), torch.tensor([[9.0, 9.0], [8.0, 8.0]])
    assert aligned((b"a", b"b"), plain[:2], (b"a", b"b"), found) is found
    assert aligned((b"a", b"b", b"c"), plain, (b"c", b"a"), found).tolist() == [[8, 8], [2, 3], [9, 9]]
