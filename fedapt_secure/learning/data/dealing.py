"""Deal one data set to the institutions of a simulated federation: who gets which images, in which domain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.paper_choices import OVER_CLASSES, OVER_CLIENTS, DirichletOver
from fedapt_secure.config.reading import AS_THEY_ARE
from fedapt_secure.learning.data.digits.scans import CLASS_NAMES, scan_count, scan_labels, write_digits
from fedapt_secure.learning.data.digits.styles import STYLES
from fedapt_secure.learning.data.digits.synthetic import Hand, draw_scans
from fedapt_secure.learning.data.few_shot import keep_few
from fedapt_secure.learning.data.layouts.layout import DomainSet, choose_classes, choose_domains
from fedapt_secure.learning.data.layouts.registry import FOLDER, LAYOUTS, read_domains
from fedapt_secure.learning.data.partition import (
    Indices,
    client_shares,
    dirichlet_shares,
    divide,
    even_shares,
    hold_out,
)
from fedapt_secure.learning.data.reading.inside import look_inside
from fedapt_secure.learning.data.reading.listing import LeftOut, Listed, Listing, list_folders
from fedapt_secure.learning.data.reading.manifest import is_manifest, write_manifest
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.learning.data.reading.records import Record, RecordSet, read_records
from fedapt_secure.learning.data.reading.unused import count_usage, unused_files
from fedapt_secure.protocol.class_names import check_classes, check_printable

DatasetName = Literal[
    "digits",
    "digits-flipped",
    "folder",
    "domainnet",
    "office-caltech10",
    "pacs",
    "officehome",
    "office31",
]

DIGITS: Final = frozenset({"digits", "digits-flipped"})
MAX_DIGIT_CLIENTS: Final = 20
"""To more institutions the digits are not dealt: each draws its own from all of them, see `synthetic`."""
UPSIDE_DOWN: Final = frozenset({"chalk", "scan"})
"""Domains whose pages come upside down in ``digits-flipped``: there a 6 looks like the others' 9."""
DIGIT_TEMPLATE: Final = "a photo of a digit {}"
FOLDER_TEMPLATE: Final = "a photo of a {}"
MANIFEST_NAME: Final = "images.csv"


@dataclass(frozen=True)
class DealOptions:
    """How a data set is dealt.

    Attributes:
        domains: Which of its domains; empty for all.
        classes: Which of its classes; empty for all.
        institutions_per_domain: How many institutions each domain has; in place of a number in all.
        dirichlet: α of the class skew among the institutions of a domain; ``None`` deals evenly.
        dirichlet_over: What it divides, see `partition.divide`.
        test_share: Share of each class of a domain that is held out; ``None`` leaves that to the source.
        few_shot: Training images of each class that an institution keeps; ``None`` keeps all.
        template: Prompt of the untuned model; ``None`` for the data set's own.
        unseen_domain: The domain that takes no part and is only evaluated on; ``None`` for none.
        people: Makes subjects out of PatientIDs; ``None`` leaves subjects to a manifest.
        max_unused: The largest share of the data set's files that may be of no use.
    """

    domains: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    institutions_per_domain: int | None = None
    dirichlet: float | None = None
    dirichlet_over: DirichletOver = OVER_CLASSES
    test_share: float | None = None
    few_shot: int | None = None
    template: str | None = None
    unseen_domain: str | None = None
    people: PatientKey | None = None
    max_unused: float = 1.0


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
        left_out: Every file that is not used, as far as that is known before files are opened.
        synthetic: Whether institutions share records: then accuracy and ε say nothing about real data.
        unseen_domain: Name of the domain that takes no part.
        unseen: Who would hold its images if it did; they lie where `DealtInstitution` says.
    """

    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    zero_shot_template: str
    institutions: tuple[DealtInstitution, ...]
    left_out: tuple[LeftOut, ...] = ()
    synthetic: bool = False
    unseen_domain: str | None = None
    unseen: tuple[DealtInstitution, ...] = ()


def deal_dataset(
    dataset: DatasetName,
    clients: int | None,
    seed: int,
    data_root: Path | None,
    destination: Callable[[str], Path],
    options: DealOptions | None = None,
) -> DealtDataset:
    """Deal a data set; the same seed deals the same images to the same institutions.

    Institutions take the domains in turn: with K domains the first and the (K + 1)-th have the same.

    Args:
        dataset: ``digits``, ``digits-flipped``, or a layout of `fedapt_secure.learning.data.layouts`.
        clients: Number of institutions; by default one a domain.
        seed: Decides who gets which images; not a secret.
        data_root: The data set's folder or manifest; not for the digits.
        destination: Gives the folder for an institution's data; made where missing.
        options: How to deal; by default all domains, evenly, with all images.

    Raises:
        InvalidInput: If the number of institutions, the options or the data set cannot be used.
    """
    options = options or DealOptions()
    if dataset in DIGITS:
        dealt = _deal_digits(dataset, clients, seed, destination, options)
    elif dataset not in LAYOUTS:
        known = ", ".join([*sorted(DIGITS), *LAYOUTS])
        raise InvalidInput(f"there is no data set {dataset}; choose one of {known}")
    elif data_root is None:
        raise InvalidInput(f"the data set {dataset!r} needs the folder that holds it: DOMAIN/CLASS/IMAGE")
    else:
        dealt = _deal_domains(dataset, data_root, clients, seed, destination, options)
    if options.unseen_domain is not None:
        dealt = _without(dealt, options.unseen_domain)
    if options.few_shot is not None:
        few = tuple(_with_few(one, dealt.class_names, options.few_shot) for one in dealt.institutions)
        dealt = replace(dealt, institutions=few)
    return dealt


def _without(dealt: DealtDataset, unseen_domain: str) -> DealtDataset:
    """Leave one domain out; everybody else holds what they hold when it takes part."""
    (unseen,) = choose_domains(dealt.domains, (unseen_domain,), "what is dealt here")
    domains = tuple(name for name in dealt.domains if name != unseen)
    place = {dealt.domains.index(name): index for index, name in enumerate(domains)}
    members = [one for one in dealt.institutions if one.domain_index in place]
    return replace(
        dealt,
        domains=domains,
        institutions=tuple(replace(one, domain_index=place[one.domain_index]) for one in members),
        unseen_domain=unseen,
        unseen=tuple(one for one in dealt.institutions if one.domain_index not in place),
    )


def digit_clients(clients: int | None, options: DealOptions) -> int:
    """Return how many institutions get digits.

    Raises:
        InvalidInput: If there is none, or a domain is not known.
    """
    domains = choose_domains(tuple(STYLES), options.domains, "the data set digits")
    count = _client_count(clients, len(domains), options)
    if count < 1:
        raise InvalidInput(f"the digits need at least one institution, not {count}")
    return count


def digit_domains(clients: int | None, options: DealOptions) -> tuple[str, ...]:
    """Return the domains in which the digits are dealt; raises `InvalidInput` as `digit_clients`."""
    count = digit_clients(clients, options)
    return choose_domains(tuple(STYLES), options.domains, "the data set digits")[:count]


def _deal_digits(
    dataset: str, clients: int | None, seed: int, destination: Callable[[str], Path], options: DealOptions
) -> DealtDataset:
    domains, count = digit_domains(clients, options), digit_clients(clients, options)
    institutions = _institutions(count, len(domains), destination)
    synthetic = count > MAX_DIGIT_CLIENTS
    if not synthetic:
        shares = _digit_shares(institutions, len(domains), options, np.random.default_rng(seed))
    for number, institution in enumerate(institutions):
        domain = domains[institution.domain_index]
        own_rng = np.random.default_rng([seed, number])  # of its own: one share does not move another's
        share = draw_scans(scan_labels(), options.dirichlet, own_rng) if synthetic else shares[number]
        hand = Hand.fresh(own_rng) if synthetic else None
        upside_down = dataset == "digits-flipped" and domain in UPSIDE_DOWN
        write_digits(institution.data, domain, share, upside_down, own_rng, hand)
    template = options.template or DIGIT_TEMPLATE
    return DealtDataset(CLASS_NAMES, domains, template, institutions, synthetic=synthetic)


def _digit_shares(
    institutions: Sequence[DealtInstitution], domains: int, options: DealOptions, rng: np.random.Generator
) -> list[Indices]:
    alpha = options.dirichlet
    if alpha is None:
        return even_shares(scan_count(), len(institutions), rng)
    labels = scan_labels()
    shares: dict[str, Indices] = {}
    for domain_index, scans in enumerate(even_shares(scan_count(), domains, rng)):
        members = [one.name for one in institutions if one.domain_index == domain_index]
        deal = client_shares if options.dirichlet_over == OVER_CLIENTS else dirichlet_shares
        parts = deal(labels[scans], len(members), alpha, rng)
        shares |= {name: scans[part] for name, part in zip(members, parts, strict=True)}
    return [shares[one.name] for one in institutions]


def _deal_domains(
    dataset: str,
    data_root: Path,
    clients: int | None,
    seed: int,
    destination: Callable[[str], Path],
    options: DealOptions,
) -> DealtDataset:
    found = read_domains(dataset, data_root, options.domains)
    if options.people is not None:
        found = _with_subjects(found, options.people)
    left_out = _unused(dataset, data_root, found, options)
    found = choose_classes(found, options.classes, data_root)
    _check_names(data_root, found.class_names, found.by_domain)
    count = _client_count(clients, len(found.by_domain), options)
    if count < 1:
        raise InvalidInput("at least one institution is needed")
    domains = tuple(found.by_domain)[:count]
    institutions = _institutions(count, len(domains), destination)
    rng = np.random.default_rng(seed)
    placed: dict[str, DealtInstitution] = {}
    for domain_index, domain in enumerate(domains):
        members = [one for one in institutions if one.domain_index == domain_index]
        shares = _shares(domain, found.by_domain[domain], len(members), options, rng)
        for institution, share in zip(members, shares, strict=True):
            placed[institution.name] = _place(institution, share, found.class_names)
    return DealtDataset(
        found.class_names,
        domains,
        options.template or FOLDER_TEMPLATE,
        tuple(placed[one.name] for one in institutions),
        left_out,
    )


def _with_subjects(found: DomainSet, people: PatientKey) -> DomainSet:
    """Return a data set with the subjects that stand in its DICOM files; what has none is left out."""
    by_domain: dict[str, tuple[Record, ...]] = {}
    left_out = list(found.left_out)
    for domain, records in found.by_domain.items():
        if any(record.subject is not None for record in records):
            raise InvalidInput("the manifest has a column subject: leave out --subjects")
        listed = [Listed(one.path, found.class_names[one.label], one.name, domain) for one in records]
        # Frames stay together: they become images where an institution reads its share.
        looked = look_inside(Listing(tuple(listed)), AS_THEY_ARE, people)
        subjects = {one.name: one.subject for one in looked.images}
        kept = [replace(one, subject=subjects[one.name]) for one in records if one.name in subjects]
        left_out += looked.left_out
        if not kept:
            one = looked.left_out[0]
            raise InvalidInput(f"no image of the domain {domain!r} can be used; {one.name}: {one.reason}")
        by_domain[domain] = tuple(kept)
    return replace(found, by_domain=by_domain, left_out=tuple(left_out))


def _unused(dataset: str, data_root: Path, found: DomainSet, options: DealOptions) -> tuple[LeftOut, ...]:
    """Return the files below a data set's folder that are not used, where its layout owns the whole folder.

    Raises:
        InvalidInput: If they are more than is allowed.
    """
    records = tuple(one for domain in found.by_domain.values() for one in domain)
    left_out = found.left_out
    if dataset == FOLDER and not is_manifest(data_root):
        listed = RecordSet(found.class_names, records, left_out)
        unused = unused_files(data_root, listed, form="DOMAIN/CLASS/IMAGE")
        others = {folder.name for folder in list_folders(data_root)} - set(found.by_domain)
        left_out = tuple(one for one in unused if one.name.split("/")[0] not in others)
    count_usage(len(records), left_out).check(options.max_unused, "--max-unused")
    return left_out


def _client_count(clients: int | None, domains: int, options: DealOptions) -> int:
    if clients is not None and options.institutions_per_domain is not None:
        raise InvalidInput("clients and institutions_per_domain both say how many institutions: give one")
    count = domains * (options.institutions_per_domain or 1) if clients is None else clients
    if options.dirichlet is not None and count <= domains:
        raise InvalidInput(
            "dirichlet divides a domain among several institutions, and here each has a domain of its own:"
            " give institutions_per_domain"
        )
    return count


def _shares(
    domain: str, records: Sequence[Record], parts: int, options: DealOptions, rng: np.random.Generator
) -> list[list[Record]]:
    try:
        if options.test_share is not None:
            records = hold_out(records, options.test_share, rng)
        return divide(records, parts, options.dirichlet, rng, options.dirichlet_over)
    except InvalidInput as error:
        raise InvalidInput(f"domain {domain!r}: {error}") from None


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


def _place(
    institution: DealtInstitution, records: Sequence[Record], class_names: Sequence[str]
) -> DealtInstitution:
    """Write an institution's manifest; its images stay where they are."""
    folder = institution.data if institution.data.is_dir() else institution.data.parent
    manifest = folder / MANIFEST_NAME
    write_manifest(
        manifest,
        [
            # Made absolute, but not resolved: a link's name has the suffix, its target may have none.
            Listed(one.path.absolute(), class_names[one.label], one.name, None, one.split, one.subject)
            for one in records
        ],
    )
    return replace(institution, data=manifest)


def _with_few(institution: DealtInstitution, class_names: Sequence[str], shots: int) -> DealtInstitution:
    records = read_records(institution.data, class_names).records
    return _place(institution, keep_few(records, shots), class_names)


def _check_names(data_root: Path, class_names: Sequence[str], domains: Mapping[str, object]) -> None:
    try:
        check_classes(class_names)
        check_printable(domains, "domain")
    except ValueError as error:
        raise InvalidInput(f"{data_root}: {error}") from None
