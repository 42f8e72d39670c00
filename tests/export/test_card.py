"""The model card: what is known and where from, what is not, and that no name becomes markup."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.export.accuracy_facts import accuracy_facts
from fedapt_secure.export.card import CardFacts, ExportedFile, card
from fedapt_secure.export.checking import Checked
from fedapt_secure.export.howto import how_to
from fedapt_secure.export.privacy_facts import privacy_facts
from tests.audit.harness import federation
from tests.export.conftest import CLASSES, make_bundle

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "`rm -rf`",
    "one\n---\nlicense: gpl\n# owned",
    "---",
    "a | b",
    "[here](https://example.org)",
    "*bold* _under_ ~gone~",
    "\x1b]0;owned\x07\u202eil",
    "&lt;b&gt;",
    "!!python/object/apply:os.system ['x']",
)


def facts(**changes) -> CardFacts:
    bundle = changes.pop("bundle", None) or make_bundle()
    form = changes.get("form", "onnx")
    given = {
        "form": form,
        "bundle": bundle,
        "digest": "a" * 64,
        "files": [ExportedFile("model.onnx", 5, "b" * 64)],
        "checked": Checked(12, 0, 2e-6, 1, 0),
        "privacy": None,
        "accuracy": None,
        "versions": [("torch", "2.15.0")],
        "opset": 18,
        "use": how_to(form, bundle, (32, 32)),
    }
    return CardFacts(**given | changes)


def fields(text: str) -> dict:
    start, front, *_ = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    assert start == ""
    return yaml.safe_load(front)


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_fields() -> None:
    assert fields(card(facts())) == {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["clip", "fedapt-secure", "fedapt"],
        "license": "apache-2.0",
    }
    for form, library in (("torchscript", "pytorch"), ("open-clip", "open_clip")):
        assert fields(card(facts(form=form)))["library_name"] == library


@pytest.mark.parametrize(
    ("model", "pretrained", "base"),
    [
        ("ViT-B-32", "openai", None),
        ("hf-hub:someone/clip", None, "someone/clip"),
        ("local-dir:/srv/institution-x/clip", None, None),
        ("ViT-B-32", "/srv/institution-x/weights.pt", None),
    ],
)
def test_of_other_clips_the_licence_is_not_known(model, pretrained, base) -> None:
    text = card(facts(bundle=dataclasses.replace(make_bundle(), model=model, pretrained=pretrained)))
    assert "license" not in fields(text)
    assert fields(text).get("base_model") == base
    assert "not known from the bundle" in section(text, "What it is")
    assert "institution-x" not in text


def test_what_is_not_given_is_not_known() -> None:
    text = card(facts())
    assert (
        section(text, "Privacy").strip()
        == "Not known from the bundle: give `--log` with the logs of its session."
    )
    assert section(text, "Accuracy").strip().startswith("Not known from the bundle: give `--evaluation`")
    assert "ε" not in text


def test_images_between_keys() -> None:
    said = section(card(facts(checked=Checked(20, 8, 1e-6, 3, 2))), "Domains")
    assert "Of the 20 images of the check, 3 lay between keys. 2 were at a tie" in said
    assert "not tried" not in said
    assert "was not tried" in section(card(facts(checked=Checked(20, 8, 1e-6, 0, 0))), "Domains")
    alone = section(card(facts(bundle=make_bundle(keys=1))), "Domains")
    assert "nothing to choose" in alone
    for method in ("promptfl", "cocoop"):
        text = card(facts(bundle=make_bundle(method), checked=Checked(1, 0, 0.0, None, None)))
        assert "no domain keys" in section(text, "Domains")
        assert "None" not in text


@pytest.mark.parametrize("place", ["class_names", "domains"])
def test_no_name_is_markup(place) -> None:
    plain = make_bundle(classes=tuple(f"c{number}" for number in range(len(HOSTILE))), keys=len(HOSTILE))
    text = card(facts(bundle=dataclasses.replace(plain, **{place: HOSTILE})))
    assert fields(text) == fields(card(facts(bundle=plain)))
    title = "Classes" if place == "class_names" else "Domains"
    for said in (section(text, title),):
        rows = [line for line in said.splitlines() if line.startswith("|")]
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)
        assert len(rows) >= len(HOSTILE) + 2
    assert len(re.findall(r"^#", text, re.MULTILINE)) == len(re.findall(r"^#", card(facts()), re.MULTILINE))
    assert len(re.findall(r"^---$", text, re.MULTILINE)) == 2
    unescaped = re.sub(r"\\.", "", text)  # a backslash and the letter that it makes a letter
    for raw in (
        "<img",
        "</script",
        "`rm",
        "](",
        "*bold",
        "_under",
        "\x1b",
        "\u202e",
        "&lt;b&gt;",
        "https://",
    ):
        assert raw not in unescaped, raw


def test_a_model_name_is_data_in_the_fields() -> None:
    odd = "hf-hub:x\n---\nlicense: mit"
    text = card(facts(bundle=dataclasses.replace(make_bundle(), model=odd)))
    assert fields(text)["base_model"] == "x\n---\nlicense: mit"
    assert "license" not in fields(text)


def bundle_of(folder: Path) -> str:
    """Return the hash of the model that the logs of a run end with."""
    logs = b"".join(path.read_bytes() for path in sorted((folder / "logs").glob("clinic-1*.jsonl")))
    (digest,) = set(re.findall(rb'"bundle":"([0-9a-f]{64})"', logs))
    return str(digest, "ascii")


class TestPrivacy:
    @pytest.fixture
    def run(self, tmp_path) -> tuple[Path, str]:
        """Return a run folder, and the hash of the model that its session ended with."""
        folder = federation(3, 1, 3).save(tmp_path / "run")
        return folder, bundle_of(folder)

    def test_of_the_very_model(self, run) -> None:
        folder, digest = run
        found = privacy_facts([folder], folder / "roster.json", digest)
        assert (found.institutions, found.unprotected, len(found.guarantees)) == (3, 0, 3)
        text = section(card(facts(privacy=found)), "Privacy")
        for one in found.guarantees:
            assert f"{one.delta:.2e} | {one.unit}" in text
        assert "VERIFIED" in text
        assert "clinic" not in text, "who took part is not said"
        assert "Not proved" in text

    def test_of_one_institution_alone(self, run) -> None:
        folder, digest = run
        found = privacy_facts([folder / "logs" / "clinic-2.jsonl"], None, digest)
        assert (found.institutions, len(found.guarantees)) == (1, 1)
        assert "logs of 1 institution that" in card(facts(privacy=found))

    def test_of_another_model(self, run) -> None:
        folder, _ = run
        with pytest.raises(InvalidInput, match="do not say that they end with this model"):
            privacy_facts([folder], None, "c" * 64)

    def test_of_the_coordinator_alone(self, run) -> None:
        folder, digest = run
        with pytest.raises(InvalidInput, match="institutions' logs"):
            privacy_facts([folder / "logs" / "coordinator.jsonl"], None, digest)

    def test_altered_logs(self, run) -> None:
        folder, digest = run
        path = folder / "logs" / "clinic-1.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"time":"2', b'"time":"1', 1))
        with pytest.raises(InvalidInput, match="altered"):
            privacy_facts([folder], folder / "roster.json", digest)

    def test_without_differential_privacy(self, tmp_path) -> None:
        made = federation(2, 0, rotate=False)
        made.session(1, 2, private=False)
        folder = made.save(tmp_path / "run")
        found = privacy_facts([folder], None, bundle_of(folder))
        assert (found.unprotected, found.guarantees) == (2, ())
        assert "nothing bounds what may be learnt" in section(card(facts(privacy=found)), "Privacy")


def evaluation(**changes) -> dict:
    given = {
        "data": "/srv/institution-x/images",
        "split": "test",
        "method": "fedapt",
        "images": 40,
        "top_1": 0.625,
        "top_5": 0.95,
        "mean_recall": 0.6,
        "mean_over_domains": {"top_1": 0.6, "top_5": 0.9},
        "per_domain": {"<ward>": {"images": 40, "top_1": 0.625, "top_5": 0.95, "right_key": None}},
        "per_class": [{"name": name, "support": 10, "recall": 0.6, "precision": 0.6} for name in CLASSES],
        "confusion": [],
        "routing": None,
        "skipped": [],
    }
    return given | changes


class TestAccuracy:
    def test_is_said_without_the_folder(self, tmp_path) -> None:
        path = tmp_path / "evaluation.json"
        path.write_text(json.dumps(evaluation()))
        text = card(facts(accuracy=accuracy_facts(path, make_bundle())))
        said = section(text, "Accuracy")
        assert "| all | 40 | 62.5% |" in said
        assert "| &lt;ward&gt; | 40 | 62.5% |" in said
        assert "outside the privacy guarantee" in said
        assert "institution-x" not in text

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"top_1": 1.5}, "is not what 'evaluate --json' writes"),
            ({"images": 0}, "is not what"),
            ({"per_domain": []}, "is not what"),
            ({"method": "promptfl"}, "another model"),
            ({"per_class": []}, "another model"),
        ],
    )
    def test_what_is_no_evaluation_of_it(self, changes, says, tmp_path) -> None:
        path = tmp_path / "evaluation.json"
        path.write_text(json.dumps(evaluation(**changes)))
        with pytest.raises(InvalidInput, match=says):
            accuracy_facts(path, make_bundle())

    def test_what_is_no_json(self, tmp_path) -> None:
        (tmp_path / "x").write_bytes(b"\xff")
        with pytest.raises(InvalidInput, match="is not what"):
            accuracy_facts(tmp_path / "x", make_bundle())
