"""``fedapt-secure audit`` as an officer meets it: answers, files, exit status, one line for a mistake."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from fedapt_secure.cli.app import run
from fedapt_secure.process.exit_status import ExitStatus
from tests.audit.harness import Federation, federation

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements-audit.txt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return federation(3).save(tmp_path_factory.mktemp("run"), simulated=True)


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


class TestExitStatus:
    def test_verified(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["audit", str(folder)]) == ExitStatus.DONE
        out, err = capsys.readouterr()
        assert out.startswith("VERIFIED (self-attested)\n")
        assert err == ""

    def test_open_violated_and_tampered(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path
    ) -> None:
        still_open = Federation(3)
        still_open.session(1, close=False)
        assert run(["audit", str(still_open.save(tmp_path / "open"))]) == ExitStatus.FAILED
        assert capsys.readouterr().out.startswith("OPEN\n")
        violated = federation(3, max_epsilon=1.0).save(tmp_path / "violated")
        assert run(["audit", str(violated)]) == ExitStatus.FAILED
        assert capsys.readouterr().out.startswith("VIOLATED\n")
        log = violated / "logs" / "clinic-1.jsonl"
        log.write_bytes(log.read_bytes().replace(b'"round":2', b'"round":3', 1))
        assert run(["audit", str(violated)]) == ExitStatus.FAILED
        out = capsys.readouterr().out
        assert out.startswith("TAMPERED\n")
        assert "clinic-1, clinic-1.jsonl line" in " ".join(out.split())

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "nothing to audit: name a run folder or one or more logs"),
            (["missing"], "missing: no such file or folder"),
            (["."], "there is no log in ."),
            (["notes.jsonl"], "is not a log of this program"),
            (["{folder}", "--trust", "missing.json"], "cannot read the roster missing.json"),
            (["{folder}", "--trust", "notes.jsonl"], "notes.jsonl is not a roster"),
            (["{folder}", "--html", "no/such/folder.html"], "there is no folder no/such"),
            (["{folder}", "--annex", "no/such/annex"], "there is no folder no/such"),
            (["{folder}", "--annex", "notes.jsonl"], "notes.jsonl is no folder"),
            (["{folder}", "--annex", "x", "--scores", "clinic-1"], "expected INSTITUTION=FILE"),
            (["{folder}", "--annex", "x", "--scores", "clinic-1=notes.jsonl"], "is no evaluation.json"),
            (["{folder}", "--scores", "clinic-1=x"], "give --html or --annex as well"),
            (["{folder}", "--htlm", "x"], "No such option"),
        ],
    )
    def test_what_cannot_be_read(
        self,
        arguments: list[str],
        says: str,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        if "." not in arguments:
            Path("notes.jsonl").write_text("dear diary\n")
        assert run(["audit", *(one.format(folder=folder) for one in arguments)]) == ExitStatus.BAD_INPUT
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"error: \S[^\n]*\n", err), err
        assert says in err


class TestForms:
    def test_json_is_all_there_is_on_the_output(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert (
            run(["audit", str(folder), "--json", "--trust", str(folder / "roster.json")]) == ExitStatus.DONE
        )
        fields = json.loads(capsys.readouterr().out)
        assert (fields["verdict"], fields["identities"]) == ("VERIFIED", "trusted roster")

    def test_a_page(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        page = tmp_path / "audit.html"
        assert run(["audit", str(folder), "--html", str(page)]) == ExitStatus.DONE
        assert page.read_text().startswith("<!DOCTYPE html>")
        assert str(page) in capsys.readouterr().out
        assert page.stat().st_mode & 0o777 == 0o644

    def test_an_annex_with_scores(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scores = {"images": 8, "top_1": 0.625, "per_class": []}
        (tmp_path / "evaluation.json").write_text(json.dumps(scores))
        annex = tmp_path / "annex"
        given = ["--annex", str(annex), "--scores", f"clinic-2={tmp_path / 'evaluation.json'}"]
        assert run(["audit", str(folder), *given]) == ExitStatus.DONE
        out = capsys.readouterr().out
        names = ["dp-deployment.yaml", "dpia-annex.md", "record-keeping.md"]
        assert sorted(path.name for path in annex.iterdir()) == names
        assert all(str(annex / name) in out for name in names)
        assert "62.5% of 8 images" in (annex / "dpia-annex.md").read_text()

    def test_explain_needs_no_path(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["audit", "--explain"]) == ExitStatus.DONE
        text = capsys.readouterr().out
        assert "What no verdict proves" in text
        assert run(["audit", str(folder), "--explain"]) == ExitStatus.DONE
        assert capsys.readouterr().out.startswith(text)


class TestEnvironment:
    def test_an_audit_needs_nothing_beyond_its_requirements(self, folder: Path, tmp_path: Path) -> None:
        """Every third-party module that an audit loads comes from a package in requirements-audit.txt."""
        code = (
            "import sys; from fedapt_secure.cli.app import run\n"
            f"status = run(['audit', {str(folder)!r}, '--html', {str(tmp_path / 'a.html')!r}])\n"
            "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(status)"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        loaded = set(done.stderr.split())
        packages = packages_distributions()
        used = {name.lower() for module in loaded for name in packages.get(module, [])}
        named = {name.lower() for name in pins(REQUIREMENTS)} | {"fedapt-secure", "setuptools"}
        named.add("charset-normalizer")  # numpy.f2py takes it where it is there anyway
        assert "torch" not in loaded
        assert "dp-accounting" in used
        assert {name.replace("_", "-") for name in used} <= named

    def test_its_requirements_are_the_tested_versions(self) -> None:
        tested = pins(ROOT / "constraints.txt")
        for name, version in pins(REQUIREMENTS).items():
            assert tested.get(name) == version, f"{name} differs between the requirements and constraints.txt"
