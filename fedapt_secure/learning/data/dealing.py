"""Deal one data set to the institutions of a simulated federation: who gets which images, in which domain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.digits import CLASS_NAMES, deal, scan_count, write_digits
from fedapt_secure.learning.data.records import list_folders, read_records, write_manifest
from fedapt_secure.learning.data.styles import STYLES

DatasetName = Literal["digits", "digits-flipped", "folder"]

DEFAULT_DIGIT_CLIENTS: Final = 5
MAX_DIGIT_CLIENTS: Final = 20
UPSIDE_DOWN: Final = frozenset({"chalk", "scan"})
"""Domains whose pages come upside down in ``digits-flipped``: there a 6 looks like the others' 9."""
DIGIT_TEMPLATE: Final = "a photo of a digit {}"
FOLDER_TEMPLATE: Final = "a photo of a {}"
MANIFEST_NAME: Final = "images.csv"


@dataclass(frozen=True)
class DealtInstitution:
    """One institution's share.

    Attributes:
        name: ``clinic-1`` and so on.
        domain_index: Which of the data set's domains it holds.
        data: What `read_records` reads: a folder, or a manifest.
    """

    name: str
    domain_index: int
    data: Path


@dataclass(frozen=True)
class DealtDataset:
    """A data set in the hands of its institutions.

    Attributes:
        class_names: The classes, in label order.
        domains: Names of the K domains in use.
        zero_shot_template: Prompt of the untuned model.
        institutions: Who holds what.
    """

    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    zero_shot_template: str
    institutions: tuple[DealtInstitution, ...]


def deal_dataset(
    dataset: DatasetName,
    clients: int | None,
    seed: int,
    data_root: Path | None,
    destination: Callable[[str], Path],
) -> DealtDataset:
    """Deal a data set; the same seed deals the same images to the same institutions.

    Args:
        dataset: ``digits``, ``digits-flipped``, or ``folder`` for ``data_root/domain/class/image``.
        clients: Number of institutions; by default 5 for digits and one a domain for a folder.
        seed: Decides who gets which images; not a secret.
        data_root: The folder, for ``folder`` alone.
        destination: Gives the folder for an institution's data; made where missing.

    Raises:
        InvalidInput: If the number of institutions or the folder cannot be used.
    """
    if dataset == "folder":
        if data_root is None:
            raise InvalidInput("the data set 'folder' needs the folder that holds DOMAIN/CLASS/IMAGE")
        return _deal_folder(data_root, clients, seed, destination)
    if dataset not in {"digits", "digits-flipped"}:
        raise InvalidInput(f"there is no data set {dataset}; choose digits, digits-flipped or folder")
    return _deal_digits(
        clients or DEFAULT_DIGIT_CLIENTS, seed, destination, flipped=dataset == "digits-flipped"
    )


def _deal_digits(
    clients: int, seed: int, destination: Callable[[str], Path], *, flipped: bool
) -> DealtDataset:
    if not 1 <= clients <= MAX_DIGIT_CLIENTS:
        raise InvalidInput(
            f"the digits can be dealt to 1 to {MAX_DIGIT_CLIENTS} institutions, not {clients}: with more,"
            f" the {scan_count()} scans leave each too few to train on privately"
        )
    domains = tuple(STYLES)[:clients]
    institutions = _institutions(clients, len(domains), destination)
    shares = deal(scan_count(), clients, np.random.default_rng(seed))
    for number, (institution, share) in enumerate(zip(institutions, shares, strict=True)):
        domain = domains[institution.domain_index]
        style_rng = np.random.default_rng([seed, number])  # of its own: one share does not move another's
        write_digits(institution.data, domain, share, flipped and domain in UPSIDE_DOWN, style_rng)
    return DealtDataset(CLASS_NAMES, domains, DIGIT_TEMPLATE, institutions)


def _deal_folder(
    data_root: Path, clients: int | None, seed: int, destination: Callable[[str], Path]
) -> DealtDataset:
    try:
        domain_folders = list_folders(data_root)
    except OSError as error:
        raise InvalidInput(f"cannot read the folder {data_root}: {error.strerror or error}") from error
    if not domain_folders:
        raise InvalidInput(f"there is no domain folder in {data_root}: expected DOMAIN/CLASS/IMAGE below it")
    clients = len(domain_folders) if clients is None else clients
    if clients < 1:
        raise InvalidInput("at least one institution is needed")
    domain_folders = domain_folders[: min(clients, len(domain_folders))]
    by_domain = {folder.name: read_records(folder) for folder in domain_folders}
    class_names = _agreed_classes({name: found.class_names for name, found in by_domain.items()})
    institutions = _institutions(clients, len(domain_folders), destination)
    rng = np.random.default_rng(seed)
    placed = []
    for domain_index, found in enumerate(by_domain.values()):
        members = [one for one in institutions if one.domain_index == domain_index]
        if len(found.records) < len(members):
            raise InvalidInput(
                f"{domain_folders[domain_index]} has {len(found.records)} images"
                f" for {len(members)} institutions"
            )
        for institution, share in zip(members, deal(len(found.records), len(members), rng), strict=True):
            manifest = institution.data / MANIFEST_NAME
            records = [found.records[index] for index in sorted(share)]
            write_manifest(manifest, [(one.path.resolve(), class_names[one.label]) for one in records])
            placed.append(DealtInstitution(institution.name, domain_index, manifest))
    in_order = {one.name: one for one in placed}
    return DealtDataset(
        class_names, tuple(by_domain), FOLDER_TEMPLATE, tuple(in_order[one.name] for one in institutions)
    )


def _institutions(
    clients: int, domains: int, destination: Callable[[str], Path]
) -> tuple[DealtInstitution, ...]:
    names = [f"clinic-{number}" for number in range(1, clients + 1)]
    folders = [destination(name) for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tuple(
        DealtInstitution(name, number % domains, folder)
        for number, (name, folder) in enumerate(zip(names, folders, strict=True))
    )


def _agreed_classes(by_domain: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    (first, class_names), *others = by_domain.items()
    differences = []
    for name, found in others:
        missing = sorted(set(class_names) - set(found))
        added = sorted(set(found) - set(class_names))
        if missing:
            differences.append(f"{name} lacks {', '.join(missing)}")
        if added:
            differences.append(f"{name} has {', '.join(added)} and {first} has not")
    if differences:
        raise InvalidInput(f"the domains must have the same classes: {'; '.join(differences)}")
    return class_names
