"""Make a stand-in for one of the paper's data sets, to try its tables where the real images are not at hand.

    python examples/make_paper_data.py NAME FOLDER [IMAGES]

NAME is domainnet, office-caltech10, officehome or pacs. Writes the data set's folders, and DomainNet's split
files, with really encoded JPEG files: shapes in place of things, one a class, each domain in a light of its
own. IMAGES of each class in each domain, 4 by default; DomainNet's split files name every fourth for tests.
It teaches nothing about the real ones.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fedapt_secure.learning.data.layouts.domainnet import DOMAINNET
from fedapt_secure.learning.data.layouts.office_caltech10 import OFFICE_CALTECH10
from fedapt_secure.learning.data.layouts.officehome import OFFICEHOME
from fedapt_secure.learning.data.layouts.pacs import PACS

FOLDERS = {"office-caltech10": OFFICE_CALTECH10, "officehome": OFFICEHOME, "pacs": PACS}
TEN = (
    *("bird", "feather", "headphones", "ice_cream", "teapot"),
    *("tiger", "whale", "windmill", "wine_glass", "zebra"),
)
"""Classes of DomainNet that its smaller form has; the others have no names here."""
SIZE = 256
LIGHTS = (
    (250, 250, 250),
    (190, 170, 140),
    (210, 215, 220),
    (120, 110, 150),
    (230, 200, 240),
    (160, 200, 170),
)
NOISES = (4, 30, 8, 45, 15, 22)
"""How much the sensor's noise varies, domain by domain."""


def draw(label: int, domain: int, rng: np.random.Generator) -> Image.Image:
    """Return a picture: a polygon with 3 to 12 corners, somewhere, in the domain's light."""
    picture = Image.new("RGB", (SIZE, SIZE), LIGHTS[domain])
    radius = rng.uniform(0.25, 0.4) * SIZE
    box = (*(rng.uniform(0.42, 0.58, 2) * SIZE), radius)
    colour = tuple(int(one) for one in np.random.default_rng(label // 10).integers(0, 110, 3))
    turn = float(rng.uniform(0, 360))
    ImageDraw.Draw(picture).regular_polygon(box, label % 10 + 3, turn, fill=colour)
    pixels = np.asarray(picture) + rng.normal(0, NOISES[domain], (SIZE, SIZE, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def domainnet_classes() -> tuple[str, ...]:
    """Return 345 names, the known ten among them."""
    others = (f"thing_{number}" for number in range(DOMAINNET.class_count - len(TEN)))
    return tuple(sorted((*TEN, *others)))


def main(name: str, folder: str, images: str = "4") -> None:
    rng, root = np.random.default_rng(0), Path(folder)
    layout = FOLDERS.get(name)
    domains, classes = (
        (DOMAINNET.domains, domainnet_classes()) if layout is None else (layout.domains, layout.class_names)
    )
    inner = () if layout is None or layout.inner_folder is None else (layout.inner_folder,)
    for place, domain in enumerate(domains):
        splits: dict[str, list[str]] = {"train": [], "test": []}
        for label, class_name in enumerate(classes):
            where = root.joinpath(domain, *inner, class_name)
            where.mkdir(parents=True, exist_ok=True)
            for number in range(int(images)):
                file = where / f"{domain}_{label:03d}_{number:06d}.jpg"
                draw(label, place, rng).save(file)
                split = "test" if number % 4 == 3 else "train"
                splits[split].append(f"{domain}/{class_name}/{file.name} {label}")
        if layout is None:
            for split, lines in splits.items():
                (root / f"{domain}_{split}.txt").write_text("\n".join(lines) + "\n")
        print(f"{domain}: {len(classes) * int(images)} images of {len(classes)} classes")


if __name__ == "__main__":
    main(*sys.argv[1:])
