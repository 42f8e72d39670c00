import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedapt_secure.learning.data.images import UnusableImage, open_rgb


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode):
    opened = open_rgb(encoded(Image.new(mode, (6, 4))))
    assert (opened.mode, opened.size) == ("RGB", (6, 4))


def test_cmyk_jpeg_becomes_rgb():
    assert open_rgb(encoded(Image.new("CMYK", (6, 4)), "JPEG")).mode == "RGB"


def test_a_photo_taken_sideways_is_turned_upright():
    image = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_rgb(encoded(image, "JPEG", exif=exif)).size == (4, 8)


def test_a_decompression_bomb_is_refused_unopened():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 11_000, 11_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(UnusableImage, match="too many"):
        open_rgb(bomb)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(UnusableImage):
        open_rgb(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
@given(
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=5),
)
def test_damaged_files_are_refused_or_opened_and_nothing_else(kind, cut, flips):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    content = bytearray(encoded(Image.fromarray(noise), kind))
    for position, flip in flips:
        content[position % len(content)] ^= flip
    try:
        opened = open_rgb(bytes(content[: len(content) - cut]))
    except UnusableImage:
        return
    assert opened.mode == "RGB"
