"""DomainNet (Peng et al. 2019, "Moment Matching"): 6 domains, 345 classes, and the split files it comes with.

``<domain>_train.txt`` and ``<domain>_test.txt`` hold lines such as
``clipart/aircraft_carrier/clipart_001_000001.jpg 0``. They say which images there are, what each is for and
which number a class has; what lies in the folders beyond that does not count.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.layouts.layout import DomainSet, choose_domains
from fedapt_secure.learning.data.reading.listing import Listed, Split, unreadable
from fedapt_secure.learning.data.reading.records import numbered

SPLITS: Final = ("train", "test")
SPLIT_FOLDERS: Final = ("", "splits")
"""Where copies keep the split files, below the root."""
_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class DomainNet:
    """The layout; smaller numbers are for tests.

    Attributes:
        domains: Its domains, in key order.
        class_count: How many classes the split files must name.
    """

    domains: tuple[str, ...] = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
    class_count: int = 345

    def read(self, root: Path, wanted: Sequence[str]) -> DomainSet:
        """List the images that the split files name; open none of them.

        Args:
            root: The folder that holds the domains and the split files.
            wanted: Names of the domains to read; empty for all six.

        Raises:
            InvalidInput: If split files, domains, classes or images are missing, or contradict each other.
        """
        chosen = choose_domains(self.domains, wanted, "DomainNet")
        files = self._split_files(root, chosen)
        numbers: dict[str, int] = {}
        images: dict[str, list[Listed]] = {domain: [] for domain in chosen}
        for (domain, split), file in files.items():
            images[domain] += _read_split_file(file, root, domain, cast("Split", split), numbers)
        class_names = self._class_names(root, numbers)
        _check_present(root, images, class_names)
        return DomainSet(
            class_names,
            {domain: numbered(found, class_names, domain) for domain, found in images.items()},
        )

    def _split_files(self, root: Path, chosen: Sequence[str]) -> dict[tuple[str, str], Path]:
        folder = next((root / one for one in SPLIT_FOLDERS if any((root / one).glob("*_train.txt"))), root)
        files = {(domain, split): folder / f"{domain}_{split}.txt" for domain in chosen for split in SPLITS}
        missing = [domain for domain in chosen if not (root / domain).is_dir()]
        missing += [file.name for file in files.values() if not file.is_file()]
        if missing:
            raise InvalidInput(
                f"DomainNet in {root} lacks {', '.join(missing)}: put them there, or name the domains that"
                " you want with --domains"
            )
        return files

    def _class_names(self, root: Path, numbers: dict[str, int]) -> tuple[str, ...]:
        by_number = {number: name for name, number in numbers.items()}
        if len(by_number) != len(numbers):
            number = next(number for name, number in numbers.items() if by_number[number] != name)
            twice = sorted(name for name, one in numbers.items() if one == number)
            raise InvalidInput(f"the split files in {root} give {', '.join(twice)} the same number {number}")
        if by_number.keys() != set(range(self.class_count)):
            raise InvalidInput(
                f"DomainNet has {self.class_count} classes, numbered from 0; the split files in {root} name"
                f" {len(by_number)}: take the complete files; for a part of it use a manifest"
            )
        return tuple(by_number[number] for number in range(self.class_count))


def _read_split_file(
    file: Path, root: Path, domain: str, split: Split, numbers: dict[str, int]
) -> Iterator[Listed]:
    seen: set[str] = set()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not UTF-8 text: take the file that DomainNet comes with") from None
    except OSError as error:
        raise unreadable(file, error) from error
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, number = line.strip().rpartition(" ")
        parts = name.split("/")
        good = len(parts) == 3 and parts[0] == domain and ".." not in parts and all(parts)
        if not good or not (number.isascii() and number.isdigit()):
            raise InvalidInput(f"line {line_number} of {file} is not '{domain}/CLASS/IMAGE NUMBER'")
        if name in seen:
            raise InvalidInput(f"line {line_number} of {file} names {name} again: each image stands once")
        if numbers.setdefault(parts[1], int(number)) != int(number):
            raise InvalidInput(
                f"line {line_number} of {file} gives class {parts[1]!r} the number {int(number)},"
                f" elsewhere it has {numbers[parts[1]]}"
            )
        seen.add(name)
        yield Listed(root / name, parts[1], name, domain, split)


def _check_present(root: Path, images: dict[str, list[Listed]], class_names: Sequence[str]) -> None:
    for domain, found in images.items():
        names = {one.name for one in found}
        if len(names) != len(found):
            raise InvalidInput(
                f"{domain}_train.txt and {domain}_test.txt in {root} share images: each has one use"
            )
        absent = set(class_names) - {one.class_name for one in found}
        if absent:
            raise InvalidInput(
                f"the split files of {domain} in {root} lack {_some(sorted(absent), 'classes')}"
            )
        folders = sorted({one.class_name for one in found})
        missing = [one for one in folders if not (root / domain / one).is_dir()]
        if missing:
            raise InvalidInput(f"{root / domain} lacks {_some(missing, 'classes')}: unpack the archive again")
        # One look into each folder: asking for each of half a million files would take minutes on a share.
        there = {f"{domain}/{one}/{file}" for one in folders for file in _names_in(root / domain / one)}
        gone = sorted(names - there)
        if gone:
            raise InvalidInput(f"{root} lacks {_some(gone, 'images')}: unpack the archive again")


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names alone, there are many
    except OSError as error:
        raise unreadable(folder, error) from error


def _some(names: Sequence[str], what: str) -> str:
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:_MOST_NAMED])}{more})"


DOMAINNET: Final = DomainNet()
