"""Copies of folders with images, of which tests make hundreds: images are names for the same bytes."""

import os
import shutil
from pathlib import Path
from typing import Final

IMAGES: Final = frozenset({".png", ".jpg"})


def copy_folder(source: Path, destination: Path) -> Path:
    """Copy a folder whose images nobody changes in place; return where to.

    Args:
        source: The folder.
        destination: Where to; it may be there.
    """
    return Path(shutil.copytree(source, destination, copy_function=_copy, dirs_exist_ok=True))


def _copy(source: str, destination: str) -> str:
    if os.path.splitext(source)[1] in IMAGES:  # noqa: PTH122 - thousands of times
        os.link(source, destination)
        return destination
    return str(shutil.copy2(source, destination))
