"""The page that a run ends with: all its parts are there, names are shown as they are, nothing is loaded."""

import html.parser
import shutil
from pathlib import Path

import pytest

from fedapt_secure.cli.app import run
from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.process.exit_status import ExitStatus

pytestmark = pytest.mark.integration

CLASSES = {"zero": "<script>alert(1)<", "one": "\"'><img src=x onerror=y>"}
DOMAINS = ("<b>ink<", "{{ 7 * 7 }}", "scan & co")
HEADINGS = [
    "What was asked",
    "Accuracy by domain",
    "Accuracy by class",
    "What is taken for what",
    "Whose knowledge is used",
    "Privacy over the rounds",
    "Who took part",
    "Time",
    "How to go on",
]


class Page(html.parser.HTMLParser):
    """Tags, headings, text and everything that could load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loading = ("src", "href", "action", "srcset", "poster")
        self.loads += [one for one in attributes if one[0] in loading or one[0].startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data.strip())
            self.tags.append("")


def page(path: Path) -> Page:
    found = Page()
    found.feed(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    dealt = iter("abc")
    deal_dataset("digits", 3, 0, None, lambda _: tmp_path / "all" / next(dealt))
    for source, domain in zip("abc", DOMAINS, strict=True):
        for digit, name in CLASSES.items():
            target = tmp_path / "images" / domain / name
            target.mkdir(parents=True)
            for image in sorted((tmp_path / "all" / source / digit).iterdir())[:14]:
                shutil.copy(image, target)
    return tmp_path / "images"


def test_a_private_run(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)))
    short = [
        "--rounds",
        "2",
        "--local-steps",
        "1",
        "--context-tokens",
        "2",
        "--out",
        "run",
        "--open",
        "--dp-delta",
        "0.005",
    ]
    assert run(["simulate", "--dataset", "folder", "--data-root", str(images), *short]) == ExitStatus.DONE
    said = capsys.readouterr().out
    assert "Report: run/report.html" in said
    assert "there is no browser to show the report in" in said
    assert opened == [(tmp_path / "run" / "report.html").resolve().as_uri()]
    found = page(tmp_path / "run" / "report.html")
    assert found.headings == HEADINGS
    assert not {"script", "img", "iframe", "link", "object", "b>ink"} & set(found.tags)
    assert found.loads == []
    for name in (*CLASSES.values(), *DOMAINS):
        assert name in found.text
    assert "VERIFIED (self-attested)" in found.text
    assert "ε grows to" in found.text
    assert "2 of 2 rounds were completed" in found.text


@pytest.mark.parametrize("method", ["local", "zero-shot", "promptfl"])
def test_other_methods_and_no_privacy(
    method: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--rounds", "1", "--local-steps", "1", "--context-tokens", "2", "--out", "run", "--no-dp"]
    data = ["--dataset", "folder", "--data-root", str(images), "--method", method]
    assert run(["simulate", *data, *short]) == ExitStatus.DONE
    found = page(tmp_path / "run" / "report.html")
    assert "NOT PRIVATE" in found.text
    assert "Whose knowledge is used" not in found.headings
    assert "Accuracy by class" in found.headings
    assert ("Each institution's model on its own images" in found.text) == (method == "local")
