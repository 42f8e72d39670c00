"""Make a stand-in for Office-Caltech10, to try its configuration where the real images are not at hand.

    python examples/make_office_caltech10.py FOLDER [SHARE]

Writes the data set's folders (domain/images/class) with really encoded JPEG and PNG files: shapes in place
of things, one a class, each domain in a light of its own. SHARE is the share of the real number of images, 1
by default: 958 amazon, 1,123 caltech, 157 dslr, 295 webcam. It teaches nothing about the real ones.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fedapt_secure.learning.data.layouts.office_caltech10 import OFFICE_CALTECH10

COUNTS = {"amazon": 958, "caltech": 1123, "dslr": 157, "webcam": 295}
SIZES = {"amazon": 300, "caltech": 320, "dslr": 640, "webcam": 420}
LIGHT = {
    "amazon": ((250, 250, 250), 4),
    "caltech": ((190, 170, 140), 30),
    "dslr": ((210, 215, 220), 8),
    "webcam": ((120, 110, 150), 45),
}
"""Colour of the background, and how much the sensor's noise varies."""


def draw(label: int, domain: str, rng: np.random.Generator) -> Image.Image:
    """Return a picture: a polygon with ``label + 3`` corners, somewhere, in the domain's light."""
    size, (background, noise) = SIZES[domain], LIGHT[domain]
    picture = Image.new("RGB", (size, size), background)
    radius = rng.uniform(0.25, 0.4) * size
    box = (*(rng.uniform(0.42, 0.58, 2) * size), radius)
    colour = tuple(int(one) for one in rng.integers(0, 110, 3))
    turn = float(rng.uniform(0, 360))
    ImageDraw.Draw(picture).regular_polygon(box, label + 3, turn, fill=colour)
    pixels = np.asarray(picture) + rng.normal(0, noise, (size, size, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main(folder: str, share: str = "1") -> None:
    rng = np.random.default_rng(0)
    class_names = OFFICE_CALTECH10.class_names
    for domain, count in COUNTS.items():
        wanted = max(2 * len(class_names), round(float(share) * count))
        for number in range(wanted):
            label = number % len(class_names)
            path = Path(folder, domain, "images", class_names[label], f"frame_{number:04d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            suffix = "png" if domain == "dslr" else "jpg"
            draw(label, domain, rng).save(path.with_suffix(f".{suffix}"))
        print(f"{domain}: {wanted} images")


if __name__ == "__main__":
    main(*sys.argv[1:])
