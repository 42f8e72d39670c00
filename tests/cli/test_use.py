"""``predict``, ``evaluate`` and ``model-info`` as their users run them: real files, exit status, one line."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml

from fedapt_secure.cli.app import run
from fedapt_secure.inference import pictures
from fedapt_secure.learning.bundle import write_bundle
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.initial_context import InitialContext
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_server.membership.templates import TINY_WEIGHTS
from tests.inference.conftest import make_bundle


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with a model and a few images in ``images/domain/class``."""
    folder = tmp_path_factory.mktemp("desk")
    names = iter(("ink", "chalk"))
    dataset = deal_dataset("digits", 2, 0, None, lambda _: folder / "all" / next(names))
    for path in sorted((folder / "all").glob("*/*/*.png"))[::12]:
        target = folder / "images" / path.relative_to(folder / "all")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    write_bundle(folder / "model.safetensors", make_bundle(dataset, "fedapt"))
    return folder


@pytest.fixture(autouse=True)
def here(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)


def count(folder: str) -> int:
    return len(list(Path(folder).glob("**/*.png")))


def test_predict_prints_a_line_an_image(capsys) -> None:
    assert run(["predict", "model.safetensors", "images", "--top", "2"]) == ExitStatus.DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == count("images") > 20
    assert all(line.startswith("images/") and line.count("%") == 2 for line in lines)
    assert all("(as in ink)" in line or "(as in chalk)" in line for line in lines)


def test_json_and_csv_say_the_same(capsys) -> None:
    assert (
        run(["predict", "model.safetensors", "images/ink", "nowhere.png", "--json", "--top", "3"])
        == ExitStatus.DONE
    )
    printed = capsys.readouterr()
    listed = json.loads(printed.out)
    assert len(listed) == count("images/ink") + 1
    assert "skipped nowhere.png: No such file" in printed.err
    assert f"1 of {len(listed)} images could not be used" in printed.err
    assert (
        run(["predict", "model.safetensors", "images/ink", "nowhere.png", "--csv", "--top", "3"])
        == ExitStatus.DONE
    )
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(listed)
    for row, one in zip(rows[:-1], listed[:-1], strict=True):
        assert (row["path"], row["label"], row["domain"]) == (one["name"], one["label"], one["domain"])
        assert float(row["probability_3"]) == one["top"][2]["probability"]
    assert rows[-1]["label"] == ""
    assert listed[-1]["skipped"] == rows[-1]["skipped"] == "No such file or directory"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "model.safetensors", "nowhere.png"], "none of the 1 images can be used"),
        (["predict", "model.safetensors", "empty"], "no image in the folders given"),
        (["predict", "model.safetensors", "images", "--json", "--csv"], "exclude each other"),
        (["predict", "model.safetensors", "images", "--top", "0"], "--top: 0 is not in the range 1 to"),
        (
            ["predict", "model.safetensors", "images", "--batch-size", "0"],
            "--batch-size: 0 is not in the range 1 to",
        ),
        (["predict", "model.safetensors", "images", "--device", "tpu"], "auto, cpu or cuda"),
        (["predict", "model.safetensors", "images", "--pretrained", "random"], "tuned on other weights"),
        (["predict", "nowhere.safetensors", "images"], "cannot read nowhere.safetensors"),
        (["predict", "changed.safetensors", "images"], "changed or damaged after it was written"),
        (["predict", "images/ink", "images"], "cannot read images/ink"),
        (["evaluate", "model.safetensors", "--data", "nowhere"], "cannot read the images of nowhere"),
        (["evaluate", "model.safetensors", "--data", "images", "--split", "some"], "test, train or all"),
        (["evaluate", "model.safetensors", "--data", "images", "--out", "model.safetensors"], "cannot write"),
        (["model-info", "--model", "ViT-B-3"], "did you mean"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], message: str, capsys) -> None:
    Path("empty").mkdir(exist_ok=True)
    changed = bytearray(Path("model.safetensors").read_bytes())
    changed[-5] ^= 1
    Path("changed.safetensors").write_bytes(changed)
    assert run(arguments) == ExitStatus.BAD_INPUT
    errors = capsys.readouterr().err.splitlines()
    assert message in errors[-1]
    assert errors[-1].startswith("error:")


def test_evaluate_prints_and_writes_the_same_figures(tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "figures"
    command = ["evaluate", "model.safetensors", "--data", "images", "--split", "all", "--out", str(out)]
    assert run([*command, "--json"]) == ExitStatus.DONE
    printed = capsys.readouterr()
    fields = json.loads(printed.out)
    assert fields == json.loads((out / "evaluation.json").read_text())
    assert fields["images"] == count("images")
    assert "outside the privacy guarantee" in printed.err
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json", "confusion.png", "confusion.svg", "routing.png", "routing.svg",
    }  # fmt: skip
    assert out.stat().st_mode & 0o077 == 0
    assert run(command[:-2]) == ExitStatus.DONE
    shown = capsys.readouterr().out
    assert f"top-1 {fields['top_1']:.1%}" in shown
    assert f"top-5 {fields['top_5']:.1%}" in shown
    assert all(
        name in shown for name in ("By domain", "ink", "chalk", "By class", "seven", "recall", "precision")
    )


def test_without_matplotlib_the_figures_come_as_numbers(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "can_draw", lambda: False)
    out = tmp_path / "figures"
    assert run(["evaluate", "model.safetensors", "--data", "images", "--out", str(out)]) == ExitStatus.DONE
    assert [path.name for path in out.iterdir()] == ["evaluation.json"]
    assert "pip install 'fedapt-secure[plots]'" in capsys.readouterr().err


def test_model_info_is_what_a_session_wants(capsys) -> None:
    assert run(["model-info"]) == ExitStatus.DONE
    said = yaml.safe_load(capsys.readouterr().out)
    assert said == {"model": "tiny", "pretrained": None} | TINY_WEIGHTS
    assert set(said) <= set(SessionPlan.model_fields)
    assert run(["model-info", "--words", "a photo of a"]) == ExitStatus.DONE
    start = yaml.safe_load(capsys.readouterr().out)["initial_context"]
    assert len(InitialContext.model_validate(start).embeddings(64)) == 4
    assert run(["model-info", "--json"]) == ExitStatus.DONE
    facts = json.loads(capsys.readouterr().out)
    assert facts["tower_values"] == load_backbone().image_tower_values
    assert facts["tower_values"] < facts["parameters"] < 4_000_000
