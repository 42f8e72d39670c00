"""What stands in DICOM files about images before they are decoded: their frames, and whose they are.

Files are opened only where that was asked for. Of a header nothing goes on from here but a number of frames
and a subject, which is a keyed hash.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from fedapt_secure.config.reading import ALL_FRAMES, ReadingOptions
from fedapt_secure.learning.data.reading.decoding import in_order
from fedapt_secure.learning.data.reading.listing import LeftOut, Listed, Listing
from fedapt_secure.learning.data.reading.medical.headers import NO_PERSON, Header, read_header
from fedapt_secure.learning.data.reading.medical.kinds import FIRST_BYTES, is_bare_dicom, is_dicom
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.learning.data.reading.unusable import UnusableImage

NO_HEADER: Final = "no person: subjects are to come from DICOM headers, and this is no DICOM file"


def look_inside(listing: Listing, reading: ReadingOptions, people: PatientKey | None) -> Listing:
    """Return a listing with each frame as an image, and with subjects, as far as these are asked for.

    Args:
        listing: What was listed.
        reading: Whether each frame of a file is an image.
        people: Makes subjects out of PatientIDs; ``None`` leaves subjects as the source has them.
    """
    if people is None and reading.frame != ALL_FRAMES:
        return listing
    images: list[Listed] = []
    left_out = list(listing.left_out)
    looked = in_order(partial(_look, reading=reading, people=people), listing.images)
    for image, found in zip(listing.images, looked, strict=True):
        if isinstance(found, str):
            left_out.append(LeftOut(image.name, found))
        else:
            images += found
    return Listing(tuple(images), tuple(left_out))


def _look(image: Listed, reading: ReadingOptions, people: PatientKey | None) -> Sequence[Listed] | str:
    """Return a file's images, or why it has none."""
    try:
        header = _header(image)
    except UnusableImage as error:
        return str(error)
    except OSError as error:
        return (error.strerror or "cannot be read").lower()
    if people is not None:
        if header is None:
            return NO_HEADER
        if header.patient_id is None:
            return NO_PERSON
        image = replace(image, subject=people.subject(header.patient_id))
    if header is None or header.frames == 1 or reading.frame != ALL_FRAMES:
        return (image,)
    return tuple(
        replace(image, name=f"{image.name} (frame {number + 1})", frame=number)
        for number in range(header.frames)
    )


def _header(image: Listed) -> Header | None:
    with image.path.open("rb") as file:
        first = file.read(FIRST_BYTES)
        if not (is_dicom(first) or is_bare_dicom(first)):
            return None
        return read_header(first + file.read())
