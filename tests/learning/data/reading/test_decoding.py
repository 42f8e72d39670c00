import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedapt_secure.learning.data.reading import decoding
from fedapt_secure.learning.data.reading.decoding import Decoder, in_order


@given(st.lists(st.integers(), max_size=50), st.integers(1, 8))
@settings(deadline=None, max_examples=30)
def test_results_come_in_the_order_of_the_items(items, ahead):
    assert list(in_order(lambda item: item + 1, items, ahead=ahead)) == [item + 1 for item in items]


def test_no_more_are_in_work_or_waiting_than_was_allowed():
    lock, alive, most = threading.Lock(), 0, 0

    def work(item):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return item

    for _ in in_order(work, range(200), ahead=7):
        with lock:
            alive -= 1
    assert most <= 7 + 1, "seven, and the one that was just handed over"


def test_several_work_at_once(monkeypatch):
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 3)
    together = threading.Barrier(3, timeout=30)
    assert len(list(in_order(lambda _: together.wait(), range(6)))) == 6


def test_an_error_comes_where_its_result_would_have_come():
    stream = in_order(lambda item: 10 // item, [5, 2, 0, 1])
    assert [next(stream), next(stream)] == [2, 5]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    stream = in_order(lambda item: item, range(1000), ahead=4)
    assert next(stream) == 0
    stream.close()
    assert threading.active_count() == before


def test_what_a_transform_draws_follows_from_image_and_view(tmp_path, tiny):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "b.png")
    drawn = []

    def note(image, rng):
        drawn.append(rng.integers(2**62))
        return image

    for view, name in [("one", "a.png"), ("one", "a.png"), ("two", "a.png"), ("one", "b.png")]:
        Decoder(tiny, view, note).decode(tmp_path / name)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_what_cannot_be_decoded_says_why_and_for_how_long(tmp_path, tiny, monkeypatch):
    decoder = Decoder(tiny)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    found = decoder.decode(tmp_path / "broken.png")
    assert (found.pixels, found.lasting) == (None, True)
    assert found.remark
    for path, digest in [(tmp_path / "gone.png", None), (tmp_path / "good.png", bytes(32))]:
        found = decoder.decode(path, digest)
        assert (found.pixels, found.lasting) == (None, False)

    def no_memory(_data, *_how):
        raise MemoryError

    monkeypatch.setattr(decoding, "open_rgb", no_memory)
    found = decoder.decode(tmp_path / "good.png")
    assert (found.pixels, found.remark, found.lasting) == (None, "needs more memory than there is", False)


def test_large_pictures_are_decoded_one_at_a_time(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_PIXELS", 400)
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 4)
    lock, at_once, most = threading.Lock(), 0, 0
    open_rgb = decoding.open_rgb

    def counting(data, *how):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            return open_rgb(data, *how)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(decoding, "open_rgb", counting)
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    rng = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(path)
    decoder = Decoder(tiny)
    assert all(one.pixels is not None for one in in_order(decoder.decode, paths))
    assert most == 1
