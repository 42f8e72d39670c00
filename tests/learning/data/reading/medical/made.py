"""DICOM files made for tests out of those in pydicom's wheel; nothing is downloaded."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="needs the extra [dicom]")

SHIPPED = Path(pydicom.__file__).parent / "data"
TEST_FILES = SHIPPED / "test_files"


def shipped(name: str) -> bytes:
    """Return one of pydicom's test files."""
    return (TEST_FILES / name).read_bytes()


def to_bytes(dataset: Any) -> bytes:
    """Return a data set as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def made(values: np.ndarray, *, template: str = "CT_small.dcm", **elements: Any) -> bytes:
    """Return a file with these pixel values, (rows, columns), (frames, rows, columns) or (rows, columns, 3).

    Args:
        values: 8 or 16 bits.
        template: Whose other elements it gets.
        elements: More of them, by keyword; ``None`` removes one.
    """
    dataset = pydicom.dcmread(io.BytesIO(shipped(template)))
    colour = values.shape[-1] == 3 and values.ndim == 3
    frames = values.shape[0] if values.ndim == 3 and not colour else 1
    rows, columns = (values.shape[0], values.shape[1]) if colour else values.shape[-2:]
    bits = 8 * values.dtype.itemsize
    fields = {
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "NumberOfFrames": frames if frames > 1 else None,
        "PlanarConfiguration": 0 if colour else None,
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "WindowCenter": None,
        "WindowWidth": None,
        "PixelPaddingValue": None,
        "SmallestImagePixelValue": None,
        "LargestImagePixelValue": None,
    }
    for name, value in (fields | elements).items():
        if (value is not None and "Descriptor" in name) or (
            name == "PixelPaddingValue" and value is not None
        ):
            # Which of two types it has depends on the pixels' sign, and the template's is another.
            dataset.add_new(name, "SS" if fields["PixelRepresentation"] else "US", value)
        elif value is not None:
            setattr(dataset, name, value)
        elif name in dataset:
            delattr(dataset, name)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    content = values.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return to_bytes(dataset)
