"""Digits as `write_digits` writes them, written once a test run: most federations deal the same ones."""

import hashlib
import os
import pickle
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedapt_secure.learning.data.digits.scans import write_digits
from tests.support.copies import copy_folder


class DealtDigits:
    """Takes the place of `write_digits`.

    Args:
        folder: Where they are kept; workers of one run share it.
        copy: How a folder gets its own.
    """

    def __init__(self, folder: Path, copy: Callable[[Path, Path], object] = copy_folder) -> None:
        self._folder = folder
        self._copy = copy

    def __call__(self, destination: Path, *arguments: Any) -> None:
        """Write the digits, or copy them where the same ones were asked for before."""
        kept = self._folder / hashlib.sha256(pickle.dumps(arguments)).hexdigest()
        if not kept.exists():
            fresh = self._folder / secrets.token_hex(8)
            fresh.mkdir(mode=0o700)
            write_digits(fresh, *arguments)
            try:
                fresh.rename(kept)
            except OSError:  # another worker was first
                shutil.rmtree(fresh)
        self._copy(kept, destination)


def copied(source: Path, destination: Path) -> None:
    """Copy a folder of images that somebody may change in place."""
    shutil.copytree(source, destination, copy_function=shutil.copy, dirs_exist_ok=True)


def run_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return a folder that all workers of a test run share, made where missing."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder
