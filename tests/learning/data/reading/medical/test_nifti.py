"""NIfTI: the slice that was asked for, turned as radiologists see it, however the volume is stored."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedapt_secure.config.reading import ReadingOptions
from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.medical import nifti
from fedapt_secure.learning.data.reading.medical.kinds import is_nifti
from fedapt_secure.learning.data.reading.unusable import UnusableImage

nibabel = pytest.importorskip("nibabel", reason="needs the extra [dicom]")

RAS = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
"""Right, front, head: each in its own step."""
WHOLE = "104.5,209"
AS_IT_IS = ReadingOptions()


def stored(values, codes="RAS", kind=nibabel.Nifti1Image, **header):
    """Return a volume as a file in which the axes lie as ``codes`` has them."""
    volume = kind(values, np.eye(4))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    volume = volume.as_reoriented(turn)
    for name, value in header.items():
        volume.header[name] = value
    return volume.to_bytes()


def shown(content, **options):
    image = nifti.open_nifti(content, ReadingOptions(window=WHOLE, **options))
    return np.asarray(image).astype(int)


def expected(plane):
    """Return a plane (first, second axis) with the far end of both at the top left."""
    return np.rint(np.clip(plane[::-1, ::-1].T / 209, 0, 1) * 255).astype(int)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ASL"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_slices_however_the_volume_is_stored(codes, kind):
    content = stored(RAS, codes, kind)
    assert is_nifti(content)
    assert (shown(content) == expected(RAS[:, :, 3])).all(), "the middle of the last axis"
    assert (shown(content, slice=1) == expected(RAS[:, :, 0])).all()
    assert (shown(content, axis=0, slice=5) == expected(RAS[4])).all()
    assert (shown(content, axis=1) == expected(RAS[:, 3])).all()


def test_packed_and_by_percentiles():
    content = gzip.compress(stored(RAS))
    assert is_nifti(content)
    low, high = np.percentile(RAS[:, :, 3], (1, 99))
    plane = np.clip((RAS[::-1, ::-1, 3].T - low) / (high - low), 0, 1) * 255
    assert (np.asarray(open_rgb(content))[..., 1] == np.rint(plane)).all()


def test_of_several_volumes_the_first():
    series = np.stack([RAS, RAS[::-1]], axis=-1)
    assert (shown(stored(series)) == expected(RAS[:, :, 3])).all()


def test_a_plane_is_a_volume_of_one_slice():
    assert (shown(stored(RAS[:, :, 2:3])) == expected(RAS[:, :, 2])).all()


def test_what_is_no_number_is_black():
    values = RAS.copy()
    values[4, 5, 3] = np.nan
    assert np.asarray(nifti.open_nifti(stored(values), AS_IT_IS))[0, 0] == 0


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (stored(RAS), {"slice": 8}, "no slice of that number"),
        (stored(np.zeros((4, 4, 4), np.float32)), {}, "nothing to see"),
        (stored(np.full((4, 4, 4), np.nan, np.float32)), {}, "is a number"),
        (stored(RAS.astype(np.complex64)), {}, "no real numbers"),
        (stored(RAS)[:-1], {}, "ends before its values do"),
        (gzip.compress(stored(RAS))[:-300], {}, "ends before its values do"),
    ],
)
def test_refused_with_the_reason(content, options, reason):
    with pytest.raises(UnusableImage, match=reason):
        open_rgb(content, ReadingOptions(**options))


def test_a_bomb_is_measured_before_it_is_unpacked(monkeypatch):
    content = gzip.compress(stored(np.zeros((200, 200, 100), np.uint8)))
    assert len(content) < 20_000
    monkeypatch.setattr(nifti, "MAX_UNPACKED_BYTES", 3_000_000)
    with pytest.raises(UnusableImage, match="unpacks to too much"):
        open_rgb(content)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    packed=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    cut=st.floats(0.1, 1),
)
def test_whatever_a_file_holds_it_is_a_picture_or_a_reason(packed, changes, cut):
    content = bytearray(stored(RAS))
    for place, value in changes:
        content[place] = value
    content = bytes(content[: int(cut * len(content))])
    reason = ""
    try:
        open_rgb(gzip.compress(content) if packed else content)
    except UnusableImage as error:
        reason = str(error)
    assert len(reason) < 120
