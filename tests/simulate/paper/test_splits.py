"""What each table trains and tests on, against the reference code's own way of reading the same folders.

Its scripts (`domain.py`, `OfficeCaltech10.py`) are transcribed plainly here: which image is for what, and
which number its class has.
"""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.data.dealing import DealtDataset
from fedapt_secure.learning.data.layouts.domainnet import DOMAINNET
from fedapt_secure.learning.data.layouts.office_caltech10 import OFFICE_CALTECH10
from fedapt_secure.simulate.setup.federation import deal

CONFIGS = Path(__file__).parents[3] / "configs" / "paper"
TEN = (
    "bird",
    "feather",
    "headphones",
    "ice_cream",
    "teapot",
    "tiger",
    "whale",
    "windmill",
    "wine_glass",
    "zebra",
)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not SMALL.exists():
        Image.new("RGB", (8, 8), (90, 120, 30)).save(SMALL)
    path.write_bytes(SMALL.read_bytes())


@pytest.fixture(scope="module", autouse=True)
def _one_picture(tmp_path_factory: pytest.TempPathFactory) -> None:
    global SMALL  # noqa: PLW0603 - encoding six thousand equal ones would take most of the time
    SMALL = tmp_path_factory.mktemp("picture") / "small.png"


@pytest.fixture(scope="module")
def domainnet(tmp_path_factory: pytest.TempPathFactory, _one_picture: None) -> Path:
    """Three images of each of 345 classes in six domains, one to four of them for tests or training."""
    root = tmp_path_factory.mktemp("domainnet")
    names = sorted((*TEN, *(f"thing_{number}" for number in range(335))))
    for domain in DOMAINNET.domains:
        lines: dict[str, list[str]] = {"train": [], "test": []}
        for label, name in enumerate(names):
            for number in range(3):
                file = f"{domain}/{name}/{number}.png"
                picture(root / file)
                lines["test" if number == label % 3 else "train"].append(f"{file} {label}")
        for split, found in lines.items():
            (root / f"{domain}_{split}.txt").write_text("\n".join(found) + "\n")
    return root


def settings(name: str, root: Path) -> SimulateSettings:
    return build(
        SimulateSettings, read_yaml(CONFIGS / f"{name}.yaml") | {"data_root": str(root)}, source=name
    )


def dealt(name: str, root: Path, tmp_path: Path) -> DealtDataset:
    def folder(institution: str) -> Path:
        (tmp_path / institution).mkdir()
        return tmp_path / institution

    return deal(settings(name, root), folder)


def images(found: DealtDataset, domain: str, split: str) -> list[tuple[str, str]]:
    """Return the file's name and class of each image of a domain that is for one use."""
    here = []
    for one in found.institutions:
        if found.domains[one.domain_index] == domain:
            with one.data.open(newline="") as stream:
                here += [
                    (row["path"], row["label"]) for row in csv.DictReader(stream) if row["split"] == split
                ]
    return here


def of_the_reference(root: Path, domain: str, split: str) -> list[tuple[str, int]]:
    """``read_domainnet_data``: a line of the split file is a path and a number."""
    found = []
    for line in (root / f"{domain}_{split}.txt").read_text().splitlines():
        path, label = line.strip().split(" ")
        found.append((str(root / path), int(label)))
    return found


@pytest.mark.parametrize(
    "name", ["domainnet_supervised", "domainnet_unsupervised", "domainnet_30_supervised"]
)
def test_domainnet_is_read_as_the_reference_reads_it(name: str, domainnet: Path, tmp_path: Path) -> None:
    found = dealt(name, domainnet, tmp_path)
    assert found.domains == ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
    assert len(found.institutions) == (30 if "30" in name else 6)
    for domain in found.domains:
        for split in ("train", "test"):
            theirs = of_the_reference(domainnet, domain, split)
            ours = [(path, found.class_names.index(label)) for path, label in images(found, domain, split)]
            assert sorted(ours) == sorted(theirs)


def test_five_of_a_domain_share_it_as_the_reference_s_rule_says(domainnet: Path, tmp_path: Path) -> None:
    """Everybody holds ten images at least, and who holds a fifth already gets no more of the next class."""
    found = dealt("domainnet_30_supervised", domainnet, tmp_path)
    for index, domain in enumerate(found.domains):
        whole = Counter(label for _, label in images(found, domain, "train"))
        sizes = []
        for one in found.institutions:
            if one.domain_index == index:
                with one.data.open(newline="") as stream:
                    labels = [row["label"] for row in csv.DictReader(stream) if row["split"] == "train"]
                sizes.append(len(labels))
                whole.subtract(labels)
        assert not +whole
        assert len(sizes) == 5
        assert min(sizes) >= 10
        largest = max(of_the_reference_rule(np.full(345, 2), 5, np.random.default_rng(7)))
        assert max(sizes) < 1.5 * largest


def of_the_reference_rule(counts: np.ndarray, clients: int, rng: np.random.Generator) -> list[int]:
    """``partition_labels`` of the scripts for five a domain, in plain form: how many images each gets."""
    total, sizes = int(counts.sum()), [0] * clients
    while min(sizes) < 10:
        sizes = [0] * clients
        for count in counts:
            shares = rng.dirichlet(np.repeat(0.5, clients))
            shares = np.array([p * (size < total / clients) for p, size in zip(shares, sizes, strict=True)])
            cuts = (np.cumsum(shares / shares.sum()) * count).astype(int)[:-1]
            parts = np.diff([0, *cuts, count])
            sizes = [size + int(part) for size, part in zip(sizes, parts, strict=True)]
    return sizes


@pytest.mark.parametrize("name", ["domainnet_10_supervised", "domainnet_10_unsupervised"])
def test_ten_classes_are_those_images_alone(name: str, domainnet: Path, tmp_path: Path) -> None:
    found = dealt(name, domainnet, tmp_path)
    assert found.class_names == TEN
    for domain in found.domains:
        for split in ("train", "test"):
            theirs = [
                path
                for path, _ in of_the_reference(domainnet, domain, split)
                if Path(path).parent.name in TEN
            ]
            assert sorted(path for path, _ in images(found, domain, split)) == sorted(theirs)


@pytest.mark.parametrize("name", ["office_caltech10_supervised", "office_caltech10_unsupervised"])
def test_office_caltech10_is_split_as_the_reference_splits_it(name: str, tmp_path: Path) -> None:
    """``get_office_caltech10_split_sampler``: of each class ``round(count * 0.2)`` are for tests."""
    root, rng = tmp_path / "office", np.random.default_rng(3)
    counts: dict[tuple[str, str], int] = {}
    for domain in OFFICE_CALTECH10.domains:
        for class_name in OFFICE_CALTECH10.class_names:
            counts[domain, class_name] = int(rng.integers(3, 18))
            for number in range(counts[domain, class_name]):
                picture(root / domain / class_name / f"{number}.png")
    found = dealt(name, root, tmp_path)
    assert found.class_names == OFFICE_CALTECH10.class_names
    for domain in found.domains:
        held = Counter(label for _, label in images(found, domain, "test"))
        trained = Counter(label for _, label in images(found, domain, "train"))
        for class_name in found.class_names:
            count = counts[domain, class_name]
            assert held[class_name] == round(count * 0.2)
            assert trained[class_name] == count - round(count * 0.2)
