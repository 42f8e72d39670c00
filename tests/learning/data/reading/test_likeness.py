"""By what a picture is known: its pixels whatever its file is like, and its look roughly."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, PngImagePlugin

from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.likeness import FEATURELESS, MOST_BITS_APART, alike, marks_of


def picture(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Something with broad shapes, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: object) -> Image.Image:
    """Return what is read back of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return open_rgb(file.getvalue())


def far(one: Image.Image, other: Image.Image) -> int:
    return (marks_of(one).look ^ marks_of(other).look).bit_count()


class TestPixels:
    def test_format_compression_metadata_and_palette_play_no_role(self) -> None:
        first = marks_of(picture()).pixels
        note = PngImagePlugin.PngInfo()
        note.add_text("Patient", "DOE^JANE")
        for kind, options in (
            ("PNG", {}),
            ("PNG", {"compress_level": 0, "pnginfo": note}),
            ("BMP", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("WEBP", {"lossless": True}),
        ):
            assert marks_of(saved(picture(), kind, **options)).pixels == first, (kind, options)
        few = picture().quantize(16)
        assert marks_of(saved(few, "PNG")).pixels == marks_of(saved(few.convert("RGB"), "PNG")).pixels

    def test_a_picture_that_its_file_turns_upright_is_the_upright_one(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = picture().transpose(Image.Transpose.ROTATE_90)
        assert marks_of(saved(turned, "PNG", exif=exif)).pixels == marks_of(picture()).pixels

    def test_a_transparent_part_is_what_it_is_shown_as(self) -> None:
        clear = picture().convert("RGBA")
        clear.putalpha(0)
        assert marks_of(saved(clear, "PNG")).pixels == marks_of(Image.new("RGB", (64, 48), "white")).pixels

    def test_one_value_or_another_shape_makes_another_picture(self) -> None:
        first, other = picture(), picture()
        other.putpixel((63, 47), (1, 2, 3))
        assert marks_of(first).pixels != marks_of(other).pixels
        flat = [marks_of(Image.new("RGB", size)).pixels for size in ((4, 9), (9, 4), (6, 6), (36, 1))]
        assert len(set(flat)) == 4

    def test_a_large_picture_is_taken_in_strips(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = marks_of(picture()).pixels
        monkeypatch.setattr("fedapt_secure.learning.data.reading.likeness._STRIP_BYTES", 3 * 64 * 5)
        assert marks_of(picture()).pixels == whole


class TestLook:
    @pytest.mark.parametrize("seed", range(8))
    def test_what_was_saved_with_losses_resized_or_lightened_looks_alike(self, seed: int) -> None:
        first = picture(seed, (640, 480))
        for other in (
            saved(first, "JPEG", quality=50),
            first.resize((320, 240)),
            ImageEnhance.Brightness(first).enhance(1.05),
        ):
            assert far(first, other) <= MOST_BITS_APART

    def test_other_pictures_do_not(self) -> None:
        looks = np.array([marks_of(picture(seed)).look for seed in range(200)], np.uint64)
        assert not alike(looks).any()

    def test_pictures_in_which_nothing_is_to_be_seen_are_like_no_other(self) -> None:
        shades = [marks_of(Image.new("RGB", (40, 30), shade)).look for shade in ("black", "white", "gray")]
        assert shades == [FEATURELESS] * 3
        assert not alike(np.array(shades, np.uint64)).any()


def near_one(looks: np.ndarray) -> np.ndarray:
    """Compare each with each."""
    near = np.bitwise_count(looks[:, None] ^ looks[None, :]) <= MOST_BITS_APART
    near &= (looks[:, None] != FEATURELESS) & (looks[None, :] != FEATURELESS)
    np.fill_diagonal(near, val=False)
    return near.any(axis=1)


@given(st.integers(0, 2**32), st.integers(1, 64), st.integers(0, 300))
@settings(deadline=None, max_examples=40)
def test_the_fast_search_finds_what_comparing_all_does(seed: int, width: int, crowd: int) -> None:
    """Spread looks, pairs a few bits apart, and a crowd that differs in few bits alone."""
    rng = np.random.default_rng(seed)
    looks = rng.integers(0, 2**64, 30, np.uint64)
    for _ in range(3):
        flips = np.uint64(1) << rng.integers(0, 64, (30, 5)).astype(np.uint64)
        flips[rng.random((30, 5)) < 0.3] = 0
        looks = np.concatenate([looks, looks[:30] ^ np.bitwise_xor.reduce(flips, axis=1)])
    looks = np.concatenate([looks, rng.integers(0, 2**width, crowd, np.uint64)])
    looks = rng.permutation(looks)
    assert alike(looks).tolist() == near_one(looks).tolist()


def test_none_and_one_are_like_no_other() -> None:
    for count in (0, 1):
        assert alike(np.full(count, 5, np.uint64)).tolist() == [False] * count
