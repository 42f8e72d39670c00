"""Images from anywhere: what is shown is right, or the reason is named; nothing crashes."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedapt_secure.learning.data.reading.images import (
    BROKEN_EXIF,
    FIRST_FRAME,
    TWELVE_BITS,
    UnusableImage,
    open_image,
    open_rgb,
)

KINDS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]
RAMP = np.arange(0, 65536, 256, np.uint32).reshape(16, 16) + 3


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content):
    return np.asarray(open_rgb(content))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, bits, colour, rows, *between):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_opened(kind):
    image = Image.new("RGB", (6, 4), (200, 30, 90))
    opened = open_image(encoded(image, kind))
    assert (opened.image.mode, opened.image.size, opened.notes) == ("RGB", (6, 4), ())
    assert np.abs(np.asarray(opened.image).astype(int) - (200, 30, 90)).max() <= 4


def test_other_formats_are_not_tried():
    for kind in ("PPM", "ICO", "PDF"):
        with pytest.raises(UnusableImage, match="not an image"):
            open_rgb(encoded(Image.new("RGB", (16, 16)), kind))


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("1", 1, (255, 255, 255)),
        ("1", 0, (0, 0, 0)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (77, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
    ],
)
def test_grey_one_bit_and_transparency(mode, colour, shown):
    assert (pixels(encoded(Image.new(mode, (3, 2), colour))) == shown).all()


def test_a_palette_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert pixels(encoded(image, kind)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
        assert pixels(encoded(image, kind, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert pixels(encoded(image, transparency=b"\x80\xff"))[0, 0].tolist() == [255, 127, 127]


def test_a_transparent_colour_without_a_palette():
    grey = Image.new("L", (2, 1), 9)
    grey.putpixel((1, 0), 10)
    assert pixels(encoded(grey, transparency=9)).tolist() == [[[255] * 3, [10] * 3]]
    deep = png(2, 1, 16, 0, [struct.pack(">2H", 700, 65535)], chunk(b"tRNS", struct.pack(">H", 700)))
    assert pixels(deep).tolist() == [[[255] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "big-endian TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind):
    image = Image.fromarray(RAMP.astype(np.uint16))
    if kind == "big-endian TIFF":
        image = Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes())
    content = encoded(image, kind.split()[-1])
    expected = np.rint(RAMP / 257)
    assert (pixels(content) == expected[..., None]).all()
    assert open_image(content).notes == ()


def test_sixteen_bit_colour_is_scaled():
    content = png(1, 1, 16, 2, [struct.pack(">3H", 65535, 32768, 256)])
    assert pixels(content).tolist() == [[[255, 128, 1]]]


def test_twelve_bits_in_sixteen_are_noted():
    twelve = Image.fromarray((RAMP // 16).astype(np.uint16))
    assert open_image(encoded(twelve)).notes == (TWELVE_BITS,)


def test_integers_of_32_bits_are_refused_with_the_reason():
    for values in (RAMP.astype(np.int32) * 1000, -RAMP.astype(np.int32)):
        with pytest.raises(UnusableImage, match="no agreed white"):
            open_rgb(encoded(Image.fromarray(values), "TIFF"))


def test_floating_point_is_for_the_unit_interval():
    unit = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert (pixels(encoded(Image.fromarray(unit), "TIFF")) == np.rint(unit * 255)[..., None]).all()
    for values in (unit * 255, unit - 0.5, np.full_like(unit, np.nan), np.full_like(unit, np.inf)):
        with pytest.raises(UnusableImage, match="no agreed white"):
            open_rgb(encoded(Image.fromarray(values), "TIFF"))


def test_unknown_colour_modes_are_refused_with_the_reason():
    with pytest.raises(UnusableImage, match="the colour mode LAB is not known"):
        open_rgb(encoded(Image.new("LAB", (4, 4)), "TIFF"))


def without_adobe(jpeg):
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4]) :]


def test_cmyk_with_and_without_adobes_inversion():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    content = encoded(cyan, "JPEG", quality=95)
    assert b"Adobe" in content
    for one in (content, encoded(cyan, "TIFF")):
        assert np.abs(pixels(one).astype(int) - (0, 255, 255)).max() <= 6
    # Pillow writes inverted values. Without the marker they are taken as they stand: red and black.
    plain = without_adobe(content)
    assert b"Adobe" not in plain
    assert pixels(plain).max() <= 6
    straight = without_adobe(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 255)), "JPEG", quality=95))
    assert np.abs(pixels(straight).astype(int) - (0, 255, 255)).max() <= 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_taken_sideways_is_turned_upright(kind, orientation):
    image = Image.fromarray(np.kron([[0, 255, 80]], np.ones((16, 16))).astype(np.uint8))  # 16 high, 48 wide
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = pixels(encoded(image, kind, exif=exif))[..., 0].astype(int)
    across = {1: "DLM", 2: "MLD", 3: "MLD", 4: "DLM"}.get(orientation)
    line = shown[8, 8::16] if across else shown[8::16, 8]
    expected = across or {5: "DLM", 6: "DLM", 7: "MLD", 8: "MLD"}[orientation]
    assert len(line) == 3
    assert np.abs(line - [{"D": 0, "L": 255, "M": 80}[one] for one in expected]).max() < 40


def test_sixteen_bits_are_turned_as_well():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.zeros((4, 8), np.uint16))
    assert open_rgb(encoded(deep, exif=exif)).size == (4, 8)


def test_broken_exif_is_noted_and_costs_no_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)
    assert open_image(content).notes == ()
    broken = open_image(content.replace(b"Exif\0\0MM\0*", b"Exif\0\0XX\0*"))
    assert (broken.image.size, broken.notes) == ((8, 4), (BROKEN_EXIF,))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts_and_is_noted(kind):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    lossless = {"lossless": True} if kind == "WEBP" else {}
    opened = open_image(encoded(first, kind, save_all=True, append_images=[second], **lossless))
    assert opened.notes == (FIRST_FRAME,)
    assert (np.asarray(opened.image) == (255, 0, 0)).all()


def test_a_stereo_photo_is_a_photo():
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8), "black")
    opened = open_image(encoded(first, "MPO", save_all=True, append_images=[second]))
    assert opened.notes == ()
    assert np.asarray(opened.image).min() > 250


def test_a_decompression_bomb_is_refused_unopened():
    for side, match in ((11_000, "too many"), (60_000, "too many")):
        with pytest.raises(UnusableImage, match=match):
            open_rgb(png(side, side, 8, 2, []))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image|broken"),
        (encoded(Image.new("RGB", (64, 64)), "JPEG")[:-200], "broken or truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:-900], "broken or truncated"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(content, reason):
    with pytest.raises(UnusableImage, match=reason):
        open_rgb(content)


def samples():
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8
    rgb = Image.fromarray(noise[..., :3])
    yield from (encoded(rgb, kind) for kind in KINDS)
    yield encoded(rgb, "JPEG", exif=exif, progressive=True)
    yield encoded(rgb.convert("CMYK"), "JPEG")
    yield encoded(rgb, "MPO", save_all=True, append_images=[rgb])
    yield encoded(Image.fromarray(noise), "PNG", exif=exif)
    yield encoded(Image.fromarray(noise), "WEBP", exif=exif)
    yield encoded(rgb.convert("P"), "PNG", transparency=b"\x00\x80")
    yield encoded(rgb, "GIF", save_all=True, append_images=[rgb.transpose(1)])
    yield encoded(Image.fromarray(noise[..., :2].copy().view(np.uint16)[..., 0]), "PNG")
    yield encoded(Image.fromarray(RAMP.astype(np.uint16)), "TIFF", compression="tiff_lzw")
    yield encoded(Image.fromarray(RAMP.astype(np.float32) / 65536), "TIFF")
    yield encoded(rgb, "TIFF", save_all=True, append_images=[rgb])


SAMPLES = list(samples())


@pytest.mark.parametrize("number", range(len(SAMPLES)))
@settings(max_examples=150, deadline=None)
@given(
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=5),
    early=st.booleans(),
)
def test_damaged_files_are_refused_or_opened_and_nothing_else(number, cut, flips, early):
    content = bytearray(SAMPLES[number])
    for position, flip in flips:  # headers are where damage does most
        content[position % (min(len(content), 120) if early else len(content))] ^= flip
    try:
        opened = open_rgb(bytes(content[: max(0, len(content) - cut)]))
    except UnusableImage:
        return
    assert opened.mode == "RGB"


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"RIFF"]), st.binary()
)
def test_any_bytes_behind_a_known_beginning(beginning, content):
    try:
        open_rgb(beginning + content)
    except UnusableImage:
        pass


def test_threads_leave_the_warning_filters_alone():
    content = encoded(Image.new("P", (8, 8)), transparency=b"\x00" * 3)
    open_rgb(content)
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [open_rgb(content) for _ in range(50)]) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert warnings.filters == before
