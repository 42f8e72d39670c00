from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_crypto.errors import RunFailed
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.features.pixels import ImageSource, training_images
from fedapt_secure.learning.data.reading.decoding import Decoder
from fedapt_secure.learning.data.reading.records import read_records


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for number in range(30):
        picture = Image.fromarray(rng.integers(0, 255, (24, 20, 3), np.uint8))
        picture.save(tmp_path / "images" / "cat" / f"{number:02d}.png")
    return read_records(tmp_path / "images").records


@pytest.fixture
def opened(monkeypatch):
    """Lists the image files that are decoded."""
    names = []
    decode = Decoder.decode
    monkeypatch.setattr(
        Decoder, "decode", lambda self, path, *rest: names.append(path.name) or decode(self, path, *rest)
    )
    return names


def test_pixels_are_those_whose_features_are_trained_on(records, tiny):
    found = load_features(records, tiny, None)
    source = training_images(records, found, tiny)
    features, labels = found.train
    assert len(source) == len(labels) < 30
    batch = torch.tensor([5, 0, 5, len(source) - 1])
    torch.testing.assert_close(tiny.encode_images(source(batch)), features[batch], atol=1e-5, rtol=1e-4)


def test_a_small_set_is_decoded_once_and_a_large_one_as_needed(records, tiny, opened):
    found = load_features(records, tiny, None)
    opened.clear()
    batch = torch.tensor([4, 1, 4])
    small = training_images(records, found, tiny)
    assert torch.equal(small(batch), small(batch))
    assert len(opened) == 2
    opened.clear()
    one = small(torch.tensor([0]))
    opened.clear()
    large = ImageSource(small._files, tiny, keep_bytes=one.nbytes)
    assert torch.equal(large(batch), small(batch))
    assert torch.equal(large(batch), small(batch))
    assert len(opened) == 3, "there was room for one of the two"


def test_an_empty_batch_has_the_shape_of_images(records, tiny):
    source = training_images(records, load_features(records, tiny, None), tiny)
    assert source(torch.tensor([], dtype=torch.int64)).shape == (0, *source(torch.tensor([0])).shape[1:])


@pytest.mark.parametrize("number", [-1, 30])
def test_there_is_no_such_image(records, tiny, number):
    source = training_images(records, load_features(records, tiny, None), tiny)
    with pytest.raises(IndexError):
        source(torch.tensor([number]))


@pytest.mark.parametrize("change", ["gone", "replaced"])
def test_an_image_that_changed_during_the_session_ends_it(records, tiny, change):
    source = training_images(records, load_features(records, tiny, None), tiny)
    for record in records:
        if change == "gone":
            record.path.unlink()
        else:
            Image.new("RGB", (24, 20), "red").save(record.path)
    with pytest.raises(RunFailed, match="cannot be used any more"):
        source(torch.tensor([0]))


def test_only_a_loaded_feature_set_names_its_records(records, tiny):

    found = replace(load_features(records, tiny, None), record_numbers=None)
    with pytest.raises(ValueError, match="which records"):
        training_images(records, found, tiny)
