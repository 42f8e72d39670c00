"""Divide one domain's images among its institutions: evenly, or with skewed classes (Dirichlet)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.paper_choices import OVER_CLASSES, OVER_CLIENTS, DirichletOver
from fedapt_secure.learning.data.reading.records import Record

Indices = NDArray[np.int64]
LEAST_IN_A_PART: Final = 10
"""What the smallest part of `client_shares` holds, or half an even share where that is less."""
_DRAWS: Final = 200


def even_shares(count: int, parts: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle ``count`` things and deal them all out, as evenly as can be.

    Returns:
        One array of indices a part; together each index once.
    """
    return np.array_split(rng.permutation(count), parts)


def dirichlet_shares(
    labels: Sequence[int] | Indices, parts: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    """Deal labelled things out in parts of equal size whose classes are skewed.

    Each part draws its own class distribution from Dirichlet(α p), p being the classes' shares in all, and
    takes its things by it without replacement; where a class is used up, the rest of the distribution is
    scaled up (Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution", section 3).

    Args:
        labels: Class of each thing, (N,).
        parts: How many parts; at most N, so that each gets something.
        alpha: α > 0; small is one class a part, large is p for all.
        rng: Decides all of it.

    Returns:
        One array of indices a part; together each index once.
    """
    _, labels = np.unique(np.asarray(labels), return_inverse=True)
    remaining = np.bincount(labels)
    prior = remaining / remaining.sum()
    queues = [rng.permutation(np.flatnonzero(labels == one)) for one in range(len(remaining))]
    shares = []
    for quota in (len(part) for part in np.array_split(labels, parts)):
        taken = take_classes(quota, alpha * prior, remaining, rng)
        ends = remaining.copy()
        remaining = remaining - taken
        shares.append(
            np.concatenate(
                [queue[start:end] for queue, start, end in zip(queues, remaining, ends, strict=True)]
            )
        )
    return shares


def client_shares(
    labels: Sequence[int] | Indices, parts: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    """Deal labelled things out in parts whose sizes and classes are skewed, class by class.

    Each class draws how it is divided among the parts from Dirichlet(α, ..., α); a part that holds an even
    share of all things or more gets nothing of the classes that follow; and all is drawn anew until the
    smallest part holds `LEAST_IN_A_PART` (Li et al. 2022, "Federated Learning on Non-IID Data Silos", as the
    scripts of many papers have it, FedAPT's among them).

    Args:
        labels: Class of each thing, (N,).
        parts: How many parts; at most N.
        alpha: α > 0; small is few parts a class, large is even.
        rng: Decides all of it.

    Returns:
        One array of indices a part; together each index once.

    Raises:
        InvalidInput: If no draw gives each part enough.
    """
    _, labels = np.unique(np.asarray(labels), return_inverse=True)
    even = len(labels) / parts
    least = min(LEAST_IN_A_PART, len(labels) // (2 * parts))
    for _ in range(_DRAWS):
        shares: list[list[Indices]] = [[] for _ in range(parts)]
        sizes = np.zeros(parts, np.int64)
        for one in range(int(labels.max()) + 1):
            things = rng.permutation(np.flatnonzero(labels == one))
            shares_of_class = _distribution(np.full(parts, alpha), sizes < even, rng)
            ends = (np.cumsum(shares_of_class)[:-1] * len(things)).astype(np.int64)
            for part, some in enumerate(np.split(things, ends)):
                shares[part].append(some)
                sizes[part] += len(some)
        if sizes.min() >= max(1, least):
            return [np.concatenate(share) for share in shares]
    raise InvalidInput(
        f"in {_DRAWS} draws no Dirichlet distribution with α = {alpha:g} over the institutions gave each"
        f" {max(1, least)} of {len(labels)} images: raise dirichlet, or ask for fewer institutions"
    )


def hold_out(records: Sequence[Record], share: float, rng: np.random.Generator) -> list[Record]:
    """Return records of which a share of each class is for tests and the rest for training.

    All images of a subject are on one side. Which images they are follows from the draw, and so from how many
    others there are: not for runs with privacy.

    Args:
        records: One domain's images, none of which says what it is for.
        share: Of each class, rounded to whole images or subjects.
        rng: Decides which.

    Raises:
        InvalidInput: If the source itself says what images are for, or the share is no image of any class.
    """
    if any(record.split is not None for record in records):
        raise InvalidInput("the data set says itself what is held out: leave out test_share")
    units = _units(records)
    labels = np.array([_main_class(records, unit) for unit in units])
    held: set[int] = set()
    for one in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == one))
        held.update(int(number) for number in members[: round(len(members) * share)])
    if not held:
        most = int(np.bincount(labels).max())
        raise InvalidInput(
            f"a share of {share:g} of each class is no image: the largest class of a domain has {most}; raise"
            " --test-share, or leave it out"
        )
    side = {index: number in held for number, unit in enumerate(units) for index in unit}
    return [replace(record, split="test" if side[at] else "train") for at, record in enumerate(records)]


def divide(
    records: Sequence[Record],
    parts: int,
    alpha: float | None,
    rng: np.random.Generator,
    over: DirichletOver = OVER_CLASSES,
) -> list[list[Record]]:
    """Divide records among institutions; each gets at least one, and all images of a subject stay together.

    A person whose images lay at two institutions would be exposed by both, each within its own budget.

    Args:
        records: One domain's images.
        parts: How many institutions.
        alpha: α of the Dirichlet distribution; ``None`` divides evenly.
        rng: Decides who gets which.
        over: Whether it is that of `dirichlet_shares` or of `client_shares`; the latter is of the images
            that are not held out, where the source says which are, and those are divided evenly.

    Raises:
        InvalidInput: If there are fewer images, or subjects, than institutions.
    """
    if over == OVER_CLIENTS and alpha is not None:
        held = [record for record in records if record.split == "test"]
        rest = [record for record in records if record.split != "test"]
        if held and rest:
            pairs = zip(divide(rest, parts, alpha, rng, over), divide(held, parts, None, rng), strict=True)
            return [[*training, *tests] for training, tests in pairs]
    units = _units(records)
    if len(units) < parts:
        what = "images" if len(units) == len(records) else "subjects"
        raise InvalidInput(f"{len(units)} {what} are too few for {parts} institutions: ask for fewer of them")
    if alpha is None:
        shares = even_shares(len(units), parts, rng)
    else:
        deal = client_shares if over == OVER_CLIENTS else dirichlet_shares
        shares = deal([_main_class(records, unit) for unit in units], parts, alpha, rng)
    return [
        [records[index] for index in sorted(index for unit in share for index in units[unit])]
        for share in shares
    ]


def take_classes(
    quota: int, concentration: NDArray[np.float64], remaining: Indices, rng: np.random.Generator
) -> Indices:
    """Return how many of each class a part takes, (classes,), adding up to ``quota``.

    Args:
        quota: At most as many as remain in all.
        concentration: Of the Dirichlet distribution of the part's own class shares, (classes,).
        remaining: How many there are of each class, (classes,).
        rng: Decides all of it.
    """
    taken = np.zeros_like(remaining)
    distribution = _distribution(concentration, remaining > 0, rng)
    while (missing := quota - int(taken.sum())) > 0:
        left = remaining - taken
        weights = np.where(left > 0, distribution, 0.0)
        if weights.sum() <= 0:
            # Too small for floating point once the large ones are used up. Scaled up, what is left of a
            # Dirichlet vector is one itself, and independent of what was taken away: draw that.
            weights = distribution = _distribution(concentration, left > 0, rng)
        # Drawing too many of a class and drawing the surplus anew is what drawing one by one comes to.
        taken += np.minimum(rng.multinomial(missing, weights / weights.sum()), left)
    return taken


def _distribution(
    concentration: NDArray[np.float64], among: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a draw from the Dirichlet distribution over some of the classes, 0 for the others."""
    distribution = np.zeros_like(concentration)
    distribution[among] = rng.dirichlet(concentration[among])
    if not (np.isfinite(distribution).all() and distribution.sum() > 0):
        distribution[:] = 0.0  # α is so small that one class has all
        distribution[rng.choice(np.flatnonzero(among))] = 1.0
    return distribution


def _units(records: Sequence[Record]) -> list[list[int]]:
    """Return what is dealt out together: one image, or all images of one subject."""
    units: list[list[int]] = []
    of_subject: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if record.subject is None:
            units.append([index])
        elif record.subject in of_subject:
            of_subject[record.subject].append(index)
        else:
            of_subject[record.subject] = [index]
            units.append(of_subject[record.subject])
    return units


def _main_class(records: Sequence[Record], unit: Sequence[int]) -> int:
    counts = Counter(records[index].label for index in unit)
    return min(counts, key=lambda label: (-counts[label], label))
