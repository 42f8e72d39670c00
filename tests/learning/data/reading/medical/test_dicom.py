"""DICOM: what is shown is what a viewer shows, or a reason without a word of the header; nothing crashes."""

import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedapt_secure.config.reading import ReadingOptions
from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.likeness import marks_of
from fedapt_secure.learning.data.reading.medical import codestreams, headers
from fedapt_secure.learning.data.reading.medical.dicom import open_dicom
from fedapt_secure.learning.data.reading.medical.kinds import is_bare_dicom
from fedapt_secure.learning.data.reading.unusable import LacksReader, UnusableImage
from tests.learning.data.reading.medical.made import TEST_FILES, made, pydicom, shipped, to_bytes

Dataset, Sequence = pydicom.Dataset, pydicom.Sequence
RAMP = np.arange(0, 4096, 16, np.uint16).reshape(16, 16)
SIGNED = (RAMP.astype(np.int32) - 1024).astype(np.int16)
AS_IT_IS = ReadingOptions()


def grey(content, **options):
    image = open_dicom(content, ReadingOptions(**options))
    assert image.mode == "L"
    return np.asarray(image)


def linear(values, low, high):
    return np.rint(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def why_not(content, options=AS_IT_IS, frame=None):
    with pytest.raises(UnusableImage) as caught:
        open_dicom(content, options, frame)
    return str(caught.value)


class TestGrey:
    def test_without_a_window_percentiles_decide(self):
        low, high = np.percentile(RAMP, (1, 99))
        assert (grey(made(RAMP)) == linear(RAMP, low, high)).all()

    def test_padding_does_not_count(self):
        padded = RAMP.copy()
        padded[:8] = 60_000
        low, high = np.percentile(RAMP[8:], (1, 99))
        shown = grey(made(padded, PixelPaddingValue=60_000))
        assert (shown[8:] == linear(RAMP[8:], low, high)).all()

    @pytest.mark.parametrize("values", [RAMP, SIGNED])
    def test_rescaled_and_windowed_as_the_standard_says(self, values):
        content = made(
            values, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[300, 9], WindowWidth=[1200, 9]
        )
        # C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5), cut off at 0 and 1
        x = 2.0 * values - 1000
        expected = np.clip((x - 299.5) / 1199 + 0.5, 0, 1) * 255
        assert np.abs(grey(content) - expected).max() <= 0.51

    @pytest.mark.parametrize(
        ("function", "formula"),
        [
            ("LINEAR_EXACT", lambda x: np.clip((x - 2000) / 1000 + 0.5, 0, 1)),
            ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 1000))),
        ],
    )
    def test_other_functions_of_a_window(self, function, formula):
        content = made(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)
        assert np.abs(grey(content) - 255 * formula(RAMP.astype(np.float64))).max() <= 0.51

    def test_a_window_of_ones_own_goes_before_the_file_s(self):
        content = made(RAMP, WindowCenter=1, WindowWidth=2, RescaleSlope=1, RescaleIntercept=-1024)
        assert (grey(content, window="0,1000") == linear(RAMP - 1024.0, -500, 500)).all()

    def test_monochrome1_is_inverted(self):
        window = {"WindowCenter": 2000, "WindowWidth": 3000}
        straight = grey(made(RAMP, **window))
        assert (grey(made(RAMP, PhotometricInterpretation="MONOCHROME1", **window)) == 255 - straight).all()

    def test_a_table_of_values_of_interest(self):
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [256, 0, 8])
        table.add_new("LUTData", "US", list(range(255, -1, -1)))
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        content = made(values, VOILUTSequence=Sequence([table]), WindowCenter=10, WindowWidth=10)
        assert (grey(content) == 255 - values).all()

    def test_window_and_rescale_by_frame(self):
        groups = []
        for center in (1000, 3000):
            values, window, group = Dataset(), Dataset(), Dataset()
            values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, 0, "US"
            window.WindowCenter, window.WindowWidth = center, 1000
            group.PixelValueTransformationSequence = Sequence([values])
            group.FrameVOILUTSequence = Sequence([window])
            groups.append(group)
        content = made(np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=Sequence(groups))
        for frame, center in enumerate((1000, 3000)):
            expected = np.clip((2.0 * RAMP - (center - 0.5)) / 999 + 0.5, 0, 1) * 255
            assert np.abs(grey(content, frame=frame + 1) - expected).max() <= 0.51

    @pytest.mark.parametrize("signed", [False, True])
    def test_bits_that_lie_elsewhere(self, signed):
        """Ten bits that begin at the third; overlays used to lie in the others."""
        values = np.arange(256, dtype=np.int64).reshape(16, 16) * 3 - (300 if signed else 0)
        noise = np.random.default_rng(0).integers(0, 4, values.shape)
        stored = (((values & 0x3FF) << 2) | noise | (noise << 12)).astype(np.uint16)
        content = made(stored, BitsStored=10, HighBit=11, PixelRepresentation=int(signed))
        assert (grey(content, window="150,1000") == linear(values, -350, 650)).all()

    def test_unused_bits_are_cleared(self):
        content = made(RAMP | 0xF000, BitsStored=12, HighBit=11)
        assert (grey(content) == grey(made(RAMP))).all()

    def test_one_shade_is_nothing_to_see(self):
        assert why_not(made(np.full((8, 8), 7, np.uint16))) == "nothing to see: all its pixels are equal"


class TestColour:
    def test_rgb_is_a_png_of_the_same_pixels(self):
        """Files of equal pixels are one record, whatever their kind."""
        rng = np.random.default_rng(1)
        values = rng.integers(0, 256, (16, 24, 3), np.uint8)
        png = io.BytesIO()
        Image.fromarray(values).save(png, "PNG")
        dicom = open_rgb(made(values))
        assert (np.asarray(dicom) == values).all()
        assert marks_of(dicom) == marks_of(open_rgb(png.getvalue()))

    def test_a_grey_picture_and_its_png(self):
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        png = io.BytesIO()
        Image.fromarray(values).save(png, "PNG")
        content = made(values, WindowCenter=127.5, WindowWidth=255, VOILUTFunction="LINEAR_EXACT")
        assert marks_of(open_rgb(content)) == marks_of(open_rgb(png.getvalue()))

    def test_sixteen_bits(self):
        values = (np.arange(48).reshape(4, 4, 3) * 257).astype(np.uint16)
        assert (np.asarray(open_rgb(made(values))) == np.arange(48).reshape(4, 4, 3)).all()

    def test_palette(self):
        tables = {
            f"{name}PaletteColorLookupTable{part}": value
            for name, ramp in (("Red", range(256)), ("Green", range(255, -1, -1)), ("Blue", [9] * 256))
            for part, value in (("Descriptor", [256, 0, 8]), ("Data", bytes(ramp)))
        }
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        shown = np.asarray(open_rgb(made(values, PhotometricInterpretation="PALETTE COLOR", **tables)))
        assert (shown == np.stack([values, 255 - values, np.full_like(values, 9)], axis=-1)).all()

    @pytest.mark.parametrize(
        ("name", "most"),
        [
            ("SC_rgb_rle.dcm", 0),
            ("SC_rgb_gdcm_KY.dcm", 0),
            ("SC_ybr_full_422_uncompressed.dcm", 8),
            ("SC_rgb_dcmtk_+eb+cr.dcm", 4),
            ("SC_rgb_dcmtk_+eb+cy+np.dcm", 8),
            ("SC_rgb_dcmtk_+eb+cy+s4.dcm", 60),
            ("SC_rgb_jls_lossy_line.dcm", 10),
        ],
    )
    def test_one_picture_in_many_transfer_syntaxes(self, name, most):
        bars = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255), (128, 128, 255)]
        shown = np.asarray(open_rgb(shipped(name)))[5:65:10, 50].astype(int)
        assert np.abs(shown - bars).max() <= most


class TestFrames:
    CONTENT = made(np.stack([np.roll(RAMP, 40 * n) for n in range(5)]), WindowCenter=2000, WindowWidth=4000)

    @pytest.mark.parametrize(("frame", "number"), [("middle", 2), (1, 0), ("5", 4), ("all", 2)])
    def test_which_one(self, frame, number):
        expected = grey(made(np.roll(RAMP, 40 * number), WindowCenter=2000, WindowWidth=4000))
        assert (grey(self.CONTENT, frame=frame) == expected).all()
        assert (np.asarray(open_dicom(self.CONTENT, AS_IT_IS, number)) == expected).all()

    def test_one_that_is_not_there(self):
        assert why_not(self.CONTENT, ReadingOptions(frame=6)) == "it has no frame of that number"

    def test_the_header_says_how_many(self):
        assert headers.read_header(self.CONTENT).frames == 5

    @pytest.mark.parametrize("count", [0, -1, 2**31 - 1])
    def test_a_number_that_cannot_be(self, count):
        content = made(RAMP, NumberOfFrames=count)
        with pytest.raises(UnusableImage, match="number of frames"):
            headers.read_header(content)
        assert why_not(content) == "its number of frames cannot be right"


class TestBare:
    def bare(self):
        """Return a data set as it comes through a network, without preamble and meta information."""
        content = made(RAMP)
        length = int.from_bytes(content[140:144], "little")
        return content[144 + length :]

    def test_it_is_read_where_everything_adds_up(self):
        assert is_bare_dicom(self.bare()[:512])
        assert (np.asarray(open_rgb(self.bare()))[..., 0] == grey(made(RAMP))).all()

    def test_a_shorter_one_is_none(self):
        assert "not as long" in why_not(self.bare()[:-600])


class TestRefused:
    @pytest.mark.parametrize(
        ("elements", "reason"),
        [
            ({"PhotometricInterpretation": "HSV"}, "colours are of a kind"),
            ({"PhotometricInterpretation": "RGB"}, "samples does not go"),
            ({"BitsAllocated": 32}, "8 to 16 bits"),
            ({"BitsStored": 17}, "8 to 16 bits"),
            ({"HighBit": 3}, "lie outside"),
            ({"PixelRepresentation": 2}, "a sign"),
            ({"Rows": 0}, "no pixels"),
            ({"Rows": 15}, "not as long as its header says"),
            ({"Rows": 17}, "not as long as its header says"),
            ({"Rows": 60_000, "Columns": 60_000}, "too many pixels"),
            ({"RescaleSlope": "1e308", "RescaleIntercept": "1e308"}, "no numbers|nothing to see|broken"),
            ({"WindowCenter": 5, "WindowWidth": -5}, "broken"),
            ({"Rows": None}, "broken"),
        ],
    )
    def test_with_the_reason(self, elements, reason):
        assert re.search(reason, why_not(made(RAMP, **elements)))

    def test_a_compression_that_nobody_reads(self):
        dataset = pydicom.dcmread(io.BytesIO(shipped("JPEG2000.dcm")))
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
        assert "compression is not read here" in why_not(to_bytes(dataset))

    def test_without_the_library_it_says_how_to_get_it(self, monkeypatch):
        def missing():
            raise LacksReader(headers.NEEDS_DICOM)

        monkeypatch.setattr(headers, "library", missing)
        with pytest.raises(LacksReader, match=r"pip install 'fedapt-secure\[dicom\]'"):
            open_rgb(shipped("CT_small.dcm"))


class TestBombs:
    def test_a_deflated_file_is_measured_before_it_is_unpacked(self, monkeypatch):
        content = shipped("image_dfl.dcm")
        assert open_dicom(content, AS_IT_IS).size == (512, 512)
        monkeypatch.setattr(headers, "MAX_UNPACKED_BYTES", 200_000)
        monkeypatch.setattr(zlib, "decompress", None)  # the library's way, which knows no bound
        assert why_not(content) == "it unpacks to too much"

    @pytest.mark.parametrize(
        "name", ["JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm"]
    )
    def test_a_compressed_picture_larger_than_its_file_says_is_never_unpacked(self, name, monkeypatch):
        dataset = pydicom.dcmread(io.BytesIO(shipped(name)))
        frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
        found = codestreams.extent(frame)
        assert (found.rows, found.columns) == (dataset.Rows, dataset.Columns)
        if name == "JPEG2000.dcm":
            huge = frame[:8] + struct.pack(">II", 2**31, 2**31) + frame[16:]
        else:
            place = frame.index(struct.pack(">HH", found.rows, found.columns))
            huge = frame[:place] + b"\xff\xff\xff\xff" + frame[place + 4 :]
        dataset.PixelData = pydicom.encaps.encapsulate([huge])
        monkeypatch.setattr(pydicom.pixels, "pixel_array", None)
        assert why_not(to_bytes(dataset)) == "its compressed picture is not as large as its header says"


COMPRESSED = [
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPGExtended.dcm",
]
FILES = [*COMPRESSED, "CT_small.dcm", "SC_rgb_small_odd.dcm", "image_dfl.dcm", "no_meta_group_length.dcm"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    cut=st.floats(0.02, 1),
)
def test_whatever_a_file_holds_it_is_a_picture_or_a_reason(name, changes, cut):
    content = bytearray(shipped(name))
    for place, value in changes:
        content[int(place * len(content))] = value
    content = bytes(content[: int(cut * len(content))])
    for read in (open_rgb, headers.read_header):
        reason = ""
        try:
            read(content)
        except UnusableImage as error:
            reason = str(error)
        assert "\n" not in reason
        assert len(reason) < 120


LOUD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from fedapt_secure.config.reading import AS_THEY_ARE
from fedapt_secure.learning.data.reading.medical import dicom, headers
from fedapt_secure.learning.data.reading.unusable import UnusableImage
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    for read in (headers.read_header, lambda data: dicom.open_dicom(data, AS_THEY_ARE)):
        try:
            read(data)
        except UnusableImage:
            pass
"""


def test_the_libraries_say_nothing_of_a_header():
    """Their warnings and logged errors repeat values, such as the 1A of badVR.dcm."""
    names = ("badVR.dcm", "JPEG-lossy.dcm", "nested_priv_SQ.dcm", "MR_truncated.dcm", "GDCMJ2K_TextGBR.dcm")
    paths = [TEST_FILES / name for name in names]
    alone = "import pydicom, sys; pydicom.dcmread(sys.argv[1]).NumberOfFrames"
    plain = subprocess.run([sys.executable, "-c", alone, paths[0]], capture_output=True, check=False)
    assert b"1A" in plain.stderr
    found = subprocess.run([sys.executable, "-c", LOUD, *paths], capture_output=True, check=True)
    assert (found.stdout, found.stderr) == (b"", b"")
