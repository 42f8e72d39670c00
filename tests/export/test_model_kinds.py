"""Every kind of text tower, taken elsewhere: each form is checked against ours as it is written."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedapt_secure.export.exporting import FORMS, Wanted, export
from fedapt_secure.learning.bundle import write_bundle
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from tests.export.conftest import make_bundle
from tests.support.hub_models import KINDS, make_model

IN_THE_GATE = {("last", "open-clip")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(7)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40 + number, 3), np.uint8)).save(
            folder / f"{number:02}.png"
        )
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (kind, form) if (kind, form) in IN_THE_GATE else pytest.param(kind, form, marks=pytest.mark.slow)
        for kind in KINDS
        for form in FORMS
    ],
)
def test_answers_are_ours(kind: str, form: str, tmp_path: Path, pictures) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    backbone = load_backbone(make_model(folder, kind), RANDOM)
    # So warm that every image lies between keys, and has a prompt of its own.
    made = make_bundle(backbone=backbone, keys=3)
    write_bundle(tmp_path / "model.safetensors", dataclasses.replace(made, temperature=0.5))
    wanted = Wanted(bundle=tmp_path / "model.safetensors", form=form, out=tmp_path / "out", images=pictures)
    checked = export(wanted).checked
    assert checked.given == len(pictures)
    assert checked.between >= len(pictures)
