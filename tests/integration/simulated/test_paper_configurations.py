"""The paper's Office-Caltech10 configurations end to end: random ViT-B-32 weights, generated folders."""

from pathlib import Path

import pytest

from fedapt_secure.learning.bundle import read_bundle
from tests.test_examples import example

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
DOMAINS = ("amazon", "caltech", "dslr", "webcam")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office_caltech10")
    assert example("make_paper_data.py", "office-caltech10", folder, 2).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("supervised", ("--rounds", "1")),
        ("unsupervised", ("--rounds", "2", "--consistency-rounds", "1", "--augmented-views", "1")),
    ],
)
def test_it_runs_as_it_stands_but_for_weights_and_rounds(
    simulate, images: Path, kind: str, changes: tuple[str, ...]
) -> None:
    config = ROOT / "configs" / "paper" / f"office_caltech10_{kind}.yaml"
    options = ("--config", str(config), "--pretrained", "random", "--data-root", str(images))
    changes = (*changes, "--test-share", "0.4")  # of two images of a class 0.2 is none
    run = simulate(*options, *changes)
    assert run.status == 0
    assert tuple(run.summary["accuracy"]["fedapt"]["per_domain"]) == DOMAINS
    assert all(one["status"] == "completed" for one in run.summary["rounds"])
    shape = read_bundle(run.folder / "model.safetensors").shape
    assert shape.meta_prompt == ((10, 24, 512) if kind == "supervised" else (16, 512))
    assert shape.domains == 4
