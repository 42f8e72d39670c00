"""Formats beside the usual ones, each made on the spot; and 16-bit TIFFs in which 0 is white."""

import builtins
import io
import struct

import numpy as np
import pytest
from PIL import Image

from fedapt_secure.learning.data.reading import images
from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.listing import called_like_an_image, suffix_of
from fedapt_secure.learning.data.reading.medical.kinds import is_heic
from fedapt_secure.learning.data.reading.unusable import LacksReader, UnusableImage

ACROSS, DOWN = np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4))
SMOOTH = np.stack([ACROSS, DOWN, np.full_like(DOWN, 128)], axis=-1).astype(np.uint8)


def encoded(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [
        ("WEBP", {"lossless": True}, 0),
        ("JPEG2000", {}, 0),
        ("JPEG2000", {"no_jp2": True}, 0),
        ("AVIF", {"quality": 90}, 12),
    ],
)
def test_a_picture_comes_back(kind, options, most):
    found = np.asarray(open_rgb(encoded(kind, **options))).astype(int)
    assert np.abs(found - SMOOTH).max() <= most


def heic():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    try:
        pillow_heif.from_pillow(Image.fromarray(SMOOTH)).save(buffer, quality=95)
    except RuntimeError:
        pytest.skip("this build of libheif writes no HEIC")
    return buffer.getvalue()


def test_heic_comes_back():
    content = heic()
    assert is_heic(content)
    assert np.abs(np.asarray(open_rgb(content)).astype(int) - SMOOTH).max() <= 16
    with pytest.raises(UnusableImage, match="broken or truncated|not an image"):
        open_rgb(content[: len(content) // 2])


def test_without_its_library_heic_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **how):
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *rest, **how)

    monkeypatch.setattr(builtins, "__import__", without)
    images._add_heic.cache_clear()
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    with pytest.raises(LacksReader, match=r"pip install 'fedapt-secure\[heic\]'"):
        open_rgb(content)


def tiff(values, photometric):
    """Return a grey TIFF of one strip, little-endian."""
    bits = 8 * values.dtype.itemsize
    kind = 3 if values.dtype.kind == "f" else 1
    entries = [
        (256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, bits), (259, 3, 1),
        (262, 3, photometric), (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (279, 4, values.nbytes),
        (339, 3, kind),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + values.tobytes()


def test_a_16_bit_tiff_in_which_0_is_white_is_inverted_like_its_8_bit_twin():
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    twins = (eight, eight.astype(np.uint16) * 257, (eight / 255).astype(np.float32))
    for values in twins:
        straight, inverted = (np.asarray(open_rgb(tiff(values, photometric))) for photometric in (1, 0))
        assert (straight[..., 0] == eight).all()
        assert (inverted[..., 0] == 255 - eight).all()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.PNG", ".png"),
        ("IM0001", ""),
        ("1.2.840.113619.2.5.1762583153", ""),
        ("a.nii.gz", ".nii.gz"),
        ("a.b.NII", ".nii"),
        ("a.tar.gz", ".gz"),
        ("scan.dcm", ".dcm"),
    ],
)
def test_suffixes(name, suffix):
    assert suffix_of(name) == suffix


def test_files_without_a_suffix_are_images_where_they_are_dicom(tmp_path):
    (tmp_path / "1.2.3").write_bytes(bytes(128) + b"DICM" + bytes(40))
    (tmp_path / "README").write_text("no image " * 40)
    (tmp_path / "empty").touch()
    assert [path.name for path in sorted(tmp_path.iterdir()) if called_like_an_image(path)] == ["1.2.3"]
