"""Small data sets on disk: really encoded JPEG, PNG and WebP files in the folders of each layout."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def write_image(path: Path, number: int) -> Path:
    """Write a picture that no other number gives, in the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(path, KINDS[path.suffix[1:]])
    return path


def write_classes(root: Path, class_names: Iterable[str], images: int = 3, start: int = 0) -> list[Path]:
    """Write ``root/class/image``: a JPEG, a PNG, a WebP, and so on in turn."""
    suffixes = list(KINDS)
    return [
        write_image(
            root / name / f"{start + number:03d}.{suffixes[number % 3]}", hash_free(name, start, number)
        )
        for name in class_names
        for number in range(images)
    ]


def write_domains(root: Path, domains: Sequence[str], class_names: Sequence[str], images: int = 3) -> Path:
    """Write ``root/domain/class/image``."""
    for number, domain in enumerate(domains):
        write_classes(root / domain, class_names, images, 1000 * number)
    return root


def write_domainnet(
    root: Path, domains: Sequence[str], class_names: Sequence[str], split_folder: str = ""
) -> Path:
    """Write images and split files as DomainNet comes: of three images of a class the last is a test."""
    for domain in domains:
        lines: dict[str, list[str]] = {"train": [], "test": []}
        for number, name in enumerate(class_names):
            for index, path in enumerate(write_classes(root / domain, [name], 3, ord(domain[0]) * 1000)):
                split = "test" if index == 2 else "train"
                lines[split].append(f"{path.relative_to(root).as_posix()} {number}")
        (root / split_folder).mkdir(exist_ok=True)
        for split, content in lines.items():
            (root / split_folder / f"{domain}_{split}.txt").write_text("\n".join(content) + "\n")
    return root


def hash_free(name: str, start: int, number: int) -> int:
    """Return a number of its own for an image; Python's hash of a string differs from run to run."""
    return int.from_bytes(f"{name}{start}".encode()) * 1000 + number
