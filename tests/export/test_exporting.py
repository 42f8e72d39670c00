"""Each form of a bundle as its user gets it: what is in the folder, and that it answers as we do."""

import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image

from fedapt_crypto.errors import InvalidInput, RunFailed
from fedapt_secure.cli.app import run
from fedapt_secure.cli.work import export_report
from fedapt_secure.export import exporting, onnx_file, open_clip_files
from fedapt_secure.export.apart import run_apart
from fedapt_secure.export.exporting import FORMS, Wanted, export
from fedapt_secure.export.graphs import graph_of
from fedapt_secure.export.onnx_file import run_onnx, session_of, write_onnx
from fedapt_secure.inference.predictor import load_model
from fedapt_secure.learning.bundle import write_bundle
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.methods import METHODS
from tests.export.conftest import CLASSES, KEYS, make_bundle
from tests.support.terminals import View, glance

BLOCKED = """
import runpy, sys
sys.modules["fedapt_secure"] = None  # any import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Images of many kinds, in a folder with one that cannot be used."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(7)
    for number in range(24):
        coarse = Image.fromarray(rng.integers(0, 256, (4 + number % 5, 5, 3), np.uint8))
        coarse.resize((40 + number, 64)).save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def model(bundle_file):
    return load_model(bundle_file, device="cpu")


@pytest.fixture(scope="module")
def exported(bundle_file, pictures, tmp_path_factory):
    """The same bundle as ONNX."""
    out = tmp_path_factory.mktemp("exported") / "onnx"
    return out, export(Wanted(bundle=bundle_file, form="onnx", out=out, images=pictures))


def pixels_of(paths) -> torch.Tensor:
    backbone = load_backbone()
    return torch.stack([backbone.preprocess(Image.open(path).convert("RGB")) for path in paths])


def same_answers(said, model, paths) -> None:
    """Compare labels, probabilities and domains with what ``predict`` says of the same files."""
    for one, (label, probability, domain) in zip(model.predict(paths), said, strict=True):
        assert (one.label, one.domain) == (label, domain)
        assert one.probability == pytest.approx(probability, abs=1e-4)


class TestOnnx:
    def test_answers_as_predict_does(self, exported, model, pictures) -> None:
        out, _ = exported
        session = onnxruntime.InferenceSession(out / "model.onnx")
        usable = pictures[:-1]
        for size in (1, 7, len(usable)):
            answer = dict(
                zip(
                    [one.name for one in session.get_outputs()],
                    session.run(None, {"pixels": pixels_of(usable[:size]).numpy()}),
                    strict=True,
                )
            )
            said = [
                (CLASSES[place], float(row[place]), f"place {domain}")
                for row, place, domain in zip(
                    answer["probabilities"], answer["logits"].argmax(1), answer["domain"], strict=True
                )
            ]
            same_answers(said, model, usable[:size])

    def test_images_between_keys_are_among_them(self, exported, pictures) -> None:
        _, made = exported
        assert made.checked.given == len(pictures) - 1
        assert made.checked.between >= 2
        assert [Path(name).name for name, _ in made.skipped] == ["broken.png"]

    def test_the_file_says_what_it_is(self, exported, bundle_file) -> None:
        out, made = exported
        found = onnx.load(out / "model.onnx")
        said = {one.key: one.value for one in found.metadata_props}
        assert json.loads(said["class_names"]) == list(CLASSES)
        assert json.loads(said["domains"]) == [f"place {number}" for number in range(KEYS)]
        assert said["bundle_sha256"] == digest(bundle_file)
        assert [(one.domain, one.version) for one in found.opset_import] == [("", 18)]
        assert (said["opset"], made.opset, found.ir_version) == ("18", 18, 8)
        shapes = {
            one.name: [size.dim_param or size.dim_value for size in one.type.tensor_type.shape.dim]
            for one in (*found.graph.input, *found.graph.output)
        }
        assert shapes == {
            "pixels": ["batch", 3, 32, 32],
            "logits": ["batch", 4],
            "probabilities": ["batch", 4],
            "domain": ["batch"],
            "domain_weights": ["batch", KEYS],
        }

    def test_nothing_of_this_machine_is_in_it(self, exported) -> None:
        out, _ = exported
        content = (out / "model.onnx").read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in content
        assert b"site-packages" not in content

    def test_the_card_lists_the_files(self, exported) -> None:
        out, made = exported
        card = (out / "README.md").read_text(encoding="utf-8")
        for one in made.files:
            assert digest(out / one.name) == one.digest
            assert one.name == "README.md" or f"`{one.digest}`" in card
        assert sorted(path.name for path in out.iterdir()) == sorted(one.name for one in made.files)
        assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "onnx"

    def test_only_the_owner_may_enter(self, exported) -> None:
        assert stat.S_IMODE(exported[0].stat().st_mode) == 0o700

    @pytest.mark.slow
    def test_large_weights_lie_beside_it(self, tmp_path) -> None:
        model = make_bundle("linear-probe").model_on(load_backbone())
        written = write_onnx(tmp_path, graph_of(model, (32, 32)), {}, most_inside=1 << 20)
        assert written == ["model.onnx", "model.onnx.data"]
        assert (
            (tmp_path / "model.onnx.data").stat().st_size > 1 << 20 > (tmp_path / "model.onnx").stat().st_size
        )
        pixels = torch.randn(3, 3, 32, 32)
        found = run_onnx(session_of(tmp_path), pixels)["logits"]
        torch.testing.assert_close(found, model.predict(model.encode_images(pixels)), atol=1e-4, rtol=1e-4)


def digest(path: Path) -> str:
    return exporting._file(path.parent, path.name).digest


@pytest.mark.slow
def test_torchscript(bundle_file, model, pictures, tmp_path, capsys) -> None:
    out = tmp_path / "script"
    status = run(
        ["export", str(bundle_file), str(out), "--to", "torchscript", "--images", str(pictures[0].parent)]
    )
    printed = capsys.readouterr()
    assert status == ExitStatus.DONE, printed.err
    assert "TorchScript is deprecated" in printed.err
    assert "broken.png" in printed.err
    assert "same labels as predict on" in printed.out
    extra = {"fedapt-secure.json": ""}
    loaded, usable = torch.jit.load(out / "model.pt", _extra_files=extra), pictures[:-1]
    answer = loaded(pixels_of(usable))
    said = [
        (CLASSES[int(row.argmax())], float(row.max()), f"place {domain}")
        for row, domain in zip(answer["probabilities"], answer["domain"].tolist(), strict=True)
    ]
    same_answers(said, model, usable)
    assert json.loads(json.loads(extra["fedapt-secure.json"])["class_names"]) == list(CLASSES)
    with zipfile.ZipFile(out / "model.pt") as file:
        content = b"".join(file.read(name) for name in file.namelist())
    assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.slow
def test_open_clip_alone(bundle_file, model, pictures, tmp_path) -> None:
    out, usable = tmp_path / "alone", pictures[:12]
    made = export(Wanted(bundle=bundle_file, form="open-clip", out=out))
    assert {one.name for one in made.files} >= {
        "predict.py",
        "tuned.safetensors",
        "clip/open_clip_config.json",
    }
    moved = out.rename(tmp_path / "elsewhere")
    answer = run_apart("it", ["-c", BLOCKED, moved / "predict.py", *usable])
    rows = [json.loads(line) for line in answer.splitlines()]
    assert [row["image"] for row in rows] == [str(path) for path in usable]
    assert any(max(row["domain_weights"]) < 1 - 1e-6 for row in rows), "one between two keys"
    same_answers([(row["label"], row["probability"], row["domain"]) for row in rows], model, usable)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_in_every_form(method, form, pictures, tmp_path) -> None:
    bundle = make_bundle(method, class_specific=method != "local")
    write_bundle(tmp_path / "model.safetensors", bundle)
    wanted = Wanted(
        bundle=tmp_path / "model.safetensors", form=form, out=tmp_path / "out", images=pictures[:6]
    )
    if (method, form) == ("cocoop", "open-clip"):
        with pytest.raises(InvalidInput, match="text features of its own"):
            export(wanted)
        assert not wanted.out.exists()
        return
    assert export(wanted).checked.largest < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("keys", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_few_keys(keys, form, pictures, tmp_path) -> None:
    write_bundle(tmp_path / "model.safetensors", make_bundle(keys=keys, class_specific=False))
    made = export(
        Wanted(bundle=tmp_path / "model.safetensors", form=form, out=tmp_path / "out", images=pictures)
    )
    assert made.checked.between == 0


class TestPlaces:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch) -> None:
        """Write two small files in place of tracing."""

        def written(folder, wanted, model, digest):
            (folder / "model.onnx").write_text("new")
            return ["model.onnx"], None

        nothing = exporting.Checked(1, 0, 0.0, 0, 0)
        monkeypatch.setattr(exporting, "_written", written)
        monkeypatch.setattr(exporting, "_checked", lambda *_: nothing)

    def test_a_folder_that_is_not_empty_is_refused(self, bundle_file, tmp_path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        with pytest.raises(InvalidInput, match="--force"):
            export(Wanted(bundle=bundle_file, form="onnx", out=tmp_path / "out"))
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.txt"]

    def test_force_replaces_an_export_and_nothing_else(self, bundle_file, tmp_path) -> None:
        out = tmp_path / "out"
        (out / "clip").mkdir(parents=True)
        for name in ("thesis.txt", "model.pt", "clip/old", "model.onnx"):
            (out / name).write_text("old")
        export(Wanted(bundle=bundle_file, form="onnx", out=out, force=True))
        assert sorted(path.name for path in out.iterdir()) == [
            "README.md",
            "model.onnx",
            "preprocess.json",
            "thesis.txt",
        ]
        assert (out / "model.onnx").read_text() == "new"
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_an_empty_folder_will_do(self, bundle_file, tmp_path) -> None:
        (tmp_path / "out").mkdir()
        export(Wanted(bundle=bundle_file, form="onnx", out=tmp_path / "out"))
        assert (tmp_path / "out" / "README.md").exists()

    @pytest.mark.parametrize("out", ["file", "link", "nowhere/out"])
    def test_what_is_no_place(self, out, bundle_file, tmp_path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(InvalidInput, match="no folder"):
            export(Wanted(bundle=bundle_file, form="onnx", out=tmp_path / out))


def test_a_form_that_answers_otherwise_leaves_nothing(bundle_file, tmp_path, monkeypatch, capsys) -> None:
    def otherwise(folder, images, given):
        model = load_model(bundle_file, device="cpu")
        pixels = torch.stack([model.classifier.backbone.preprocess(image) for image in images])
        features = model.classifier.encode_images(pixels)
        return {
            "logits": model.classifier.predict(features) * 1.01,
            "domain": model.classifier.routing(features),
            "domain_weights": model.classifier.weights(features),
        }

    monkeypatch.setattr(open_clip_files, "run_script", otherwise)
    out = tmp_path / "out"
    assert run(["export", str(bundle_file), str(out), "--to", "open-clip"]) == ExitStatus.FAILED
    assert "answers differently" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_tracer_that_fails_is_one_line(bundle_file, tmp_path, monkeypatch) -> None:
    def fails(*_, **__):
        raise ValueError("\nno such layer\nand more")

    monkeypatch.setattr(onnx_file, "_together", fails)
    with pytest.raises(RunFailed, match="cannot trace this model: no such layer; --to open-clip"):
        export(Wanted(bundle=bundle_file, form="onnx", out=tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("view", [View("ascii", 60), View("cp1252"), View("utf-8", 80)], ids=str)
def test_what_is_said_fits_every_screen(view, bundle_file, tmp_path, monkeypatch) -> None:
    odd = "ev\n\x1b]0;owned\x07\u202eil"
    made = exporting.Exported(
        (exporting.ExportedFile("model.onnx.data", 3 << 30, "0" * 64),),
        exporting.Checked(9, 2, 1.5e-6, 3, 1),
        ((odd, odd),) * 7,
        18,
    )
    monkeypatch.setattr(export_report, "export", lambda wanted: made)
    arguments = ["export", str(bundle_file), str(tmp_path / odd), "--to", "torchscript"]
    for options in ([], ["--json"]):
        seen = glance([*arguments, *options], view)
        assert seen.status == ExitStatus.DONE
        assert not [one for one in ("\x1b]", "\x07", "\u202e") if one in seen.raw]
        assert "7 images could not be used" in seen.text
    text = glance(arguments, view).text
    assert "between two keys: 3 images; at a tie: 1" in text
    assert "keep both files together" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--to", "coreml"], "--to is onnx, torchscript or open-clip, not coreml"),
        (["--to", "onnx", "--trust", "roster.json"], "give --log as well"),
        (["--to", "onnx", "--images", "empty"], "no image in what --images names"),
        (["--to", "onnx", "--evaluation", "nowhere.json"], "cannot read nowhere.json"),
        (["--to", "onnx", "--log", "nowhere"], "nowhere"),
    ],
)
def test_what_is_given_wrongly_is_one_line(options, says, bundle_file, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert run(["export", str(bundle_file), "out", *options]) == ExitStatus.BAD_INPUT
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_without_the_extra(bundle_file, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert run(["export", str(bundle_file), str(tmp_path / "out"), "--to", "onnx"]) == ExitStatus.BAD_INPUT
    assert "pip install 'fedapt-secure[export]'" in capsys.readouterr().err


def test_none_of_the_images_can_be_used(bundle_file, pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "compare", lambda *_, **__: exporting.Checked(1, 0, 0.0, 0, 0))
    with pytest.raises(InvalidInput, match="none of the 1 images can be used"):
        export(Wanted(bundle=bundle_file, form="open-clip", out=tmp_path / "out", images=pictures[-1:]))
    assert not list(tmp_path.iterdir())
