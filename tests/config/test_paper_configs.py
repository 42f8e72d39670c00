"""The configurations of the paper: valid as they stand, and the reference code's settings, field by field."""

import re
from pathlib import Path
from typing import Any

import pytest

from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import SimulateSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "paper"
PAGE = (ROOT / "docs" / "paper.md").read_text()

EVERYWHERE: dict[str, Any] = {
    "no_dp": True,
    "secure_aggregation": "masking",
    "method": "fedapt",
    "local_epochs": 1,
    "learning_rate": 0.01,
    "gradient_units": "loss",
    "loss_temperature": 1.0,
    "prior_weight": 0.0,
    "learning_rate_schedule": "constant",
    "momentum": 0.9,
    "weight_decay": 1e-5,
    "temperature": 0.01,
    "model": "ViT-B-32",
    "pretrained": "openai",
}
WITH_LABELS = {"rounds": 50, "batch_size": 256}
WITHOUT_LABELS = {
    "unsupervised": True,
    "consistency_loss": "reference",
    "pseudo_label_confidence": 0.75,
    "pseudo_label_mean": "sure",
    "template": "a photo of a {}.",
    "initial_context": "random",
    "transductive": False,
    "batch_size": 512,
    "context_tokens": 16,
    "shared_context": True,
}
FIVE_A_DOMAIN = {
    "institutions_per_domain": 5,
    "participation": "one-per-domain",
    "dirichlet": 0.5,
    "dirichlet_over": "clients",
}
SHORT = {"rounds": 10 + 4, "consistency_rounds": 4, "augmented_views": 14}
LONG = {"rounds": 10 + 20, "consistency_rounds": 20, "augmented_views": 12}
DOMAINNET = {"dataset": "domainnet", "data_root": "data/domainnet"}
TEN_CLASSES = {
    "classes": [
        *("bird", "feather", "headphones", "ice_cream", "teapot"),
        *("tiger", "whale", "windmill", "wine_glass", "zebra"),
    ]
}
"""Those of Li et al., FedBN, ICLR 2021."""
UNSEEN = {"context_tokens": 24, "unseen_domain": "all", "model": "ViT-L-14"}
OFFICE = {"dataset": "office-caltech10", "data_root": "data/office_caltech10", "test_share": 0.2}
REFERENCE: dict[str, dict[str, Any]] = {
    "domainnet_supervised": WITH_LABELS | DOMAINNET | {"context_tokens": 24},
    "domainnet_unsupervised": WITHOUT_LABELS | SHORT | DOMAINNET,
    "domainnet_10_supervised": WITH_LABELS | DOMAINNET | TEN_CLASSES | {"context_tokens": 24},
    "domainnet_10_unsupervised": WITHOUT_LABELS | SHORT | DOMAINNET | TEN_CLASSES,
    "domainnet_30_supervised": WITH_LABELS | DOMAINNET | FIVE_A_DOMAIN | {"context_tokens": 16},
    "domainnet_30_unsupervised": WITHOUT_LABELS | LONG | DOMAINNET | FIVE_A_DOMAIN,
    "office_caltech10_supervised": WITH_LABELS | OFFICE | {"context_tokens": 24},
    "office_caltech10_unsupervised": WITHOUT_LABELS | SHORT | OFFICE,
    "domainnet_unseen_supervised": WITH_LABELS | UNSEEN | DOMAINNET,
    "officehome_unseen_supervised": WITH_LABELS
    | UNSEEN
    | {"dataset": "officehome", "data_root": "data/officehome"},
    "pacs_unseen_supervised": WITH_LABELS | UNSEEN | {"dataset": "pacs", "data_root": "data/pacs"},
}
"""The defaults of the reference code's scripts and what they write into them, by experiment."""
DERIVED: dict[str, tuple[str, set[str]]] = {
    "domainnet_10_supervised": ("domainnet_supervised", {"local_steps", "classes"}),
    "domainnet_10_unsupervised": ("domainnet_unsupervised", {"local_steps", "classes"}),
    "domainnet_unseen_supervised": ("domainnet_supervised", {"unseen_domain", "model"}),
    "officehome_unseen_supervised": ("domainnet_unseen_supervised", {"local_steps", "dataset"}),
    "pacs_unseen_supervised": ("domainnet_unseen_supervised", {"local_steps", "dataset"}),
}
"""Files that take the settings of another, but for some."""
FOR_THE_ENCODING = {"local_steps"}
"""What the reference has not: about how far a round goes, which the clip range is checked by."""


def test_there_are_these() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(REFERENCE)


@pytest.mark.parametrize("name", REFERENCE)
def test_each_field_is_the_reference_s(name: str) -> None:
    found = read_yaml(FOLDER / f"{name}.yaml")
    assert {field: found[field] for field in found if field not in FOR_THE_ENCODING} == (
        EVERYWHERE | REFERENCE[name]
    )


@pytest.mark.parametrize("name", REFERENCE)
def test_each_is_valid(name: str) -> None:
    settings = build(SimulateSettings, read_yaml(FOLDER / f"{name}.yaml"), source=name)
    assert settings.keys is None
    assert settings.shared_context == settings.unsupervised


def rows() -> dict[str, list[str]]:
    table = PAGE.split("<!-- fields -->")[1].split("<!-- end of fields -->")[0]
    lines = [line.strip().strip("|").split("|") for line in table.strip().splitlines()]
    cells = [[cell.strip().strip("`") for cell in line] for line in lines]
    return {line[0]: line[1:] for line in [cells[0], *cells[2:]]}


def test_the_page_s_table_is_what_the_files_say() -> None:
    table = rows()
    names = [re.sub(r"\W", "_", one.lower()).strip("_") for one in table.pop("field")[:-1]]
    assert sorted(names) == sorted(set(REFERENCE) - set(DERIVED))
    files = {name: read_yaml(FOLDER / f"{name}.yaml") for name in names}
    assert set(table) == {field for file in files.values() for field in file} - {"dataset", "data_root"}
    for field, cells in table.items():
        assert cells[-1], f"{field}: what the reference says is missing"
        for name, cell in zip(names, cells[:-1], strict=True):
            value = files[name].get(field)
            shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            assert cell == ("-" if shown is None else str(shown)), f"{name}: {field}"


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_file_differs_as_the_page_says(name: str) -> None:
    other, changes = DERIVED[name]
    one, base = (read_yaml(FOLDER / f"{found}.yaml") for found in (name, other))
    differences = {field: value for field, value in one.items() if base.get(field) != value}
    assert one.keys() >= base.keys()
    assert differences.keys() - {"data_root"} == changes
    table = PAGE.split("<!-- derived -->")[1].split("<!-- end of derived -->")[0]
    (line,) = (line for line in table.splitlines() if line.startswith(f"| `{name}` | `{other}` |"))
    for field in changes:
        value = differences[field]
        assert f"`{field}`" in line
        assert (
            "the same `classes`" in line
            if isinstance(value, list) and name.endswith("_unsupervised")
            else ((", ".join(value) if isinstance(value, list) else f"`{field}` {value}") in line)
        )


def test_each_is_explained() -> None:
    for path in FOLDER.iterdir():
        assert f"configs/paper/{path.name}" in PAGE
