import pytest
import torch

from fedapt_secure.learning.clip.device import CPU
from fedapt_secure.learning.clip.feeding import Feed


def batches_of(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [
        (number, [torch.rand(3, 4, 4, generator=generator) for _ in range(size)])
        for number, size in enumerate(sizes)
    ]


def encode(pixels):
    return pixels.flatten(1)[:, :6].double() * 2


@pytest.mark.parametrize("late", [None, 0, 1, 3])
def test_features_are_those_of_the_tower_batch_by_batch_in_order(late):
    batches = batches_of(5, 0, 2, 5, 1)
    found = list(Feed(encode, CPU, 6, late)(iter(batches)))
    assert [tag for tag, _ in found] == [0, 1, 2, 3, 4]
    for (_, features), (_, pixels) in zip(found, batches, strict=True):
        assert features.dtype == torch.float32
        assert features.shape == (len(pixels), 6)
        if pixels:
            assert torch.equal(features, encode(torch.stack(pixels)).float())


def test_no_more_is_under_way_than_was_said():
    taken = []

    def source():
        for batch in batches_of(*[1] * 6):
            taken.append(batch[0])
            yield batch

    feed = Feed(encode, CPU, 6, late=2)
    for received, (tag, _) in enumerate(feed(source())):
        assert tag == received
        assert len(taken) <= received + 3


def test_nothing_comes_of_nothing():
    assert list(Feed(encode, CPU, 6, late=2)([])) == []


def test_what_the_tower_raises_arrives():
    def failing(pixels):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(Feed(failing, CPU, 6)(batches_of(1)))
