"""The command line as a user meets it: exit status, one line for a mistake, and nothing left behind."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure import __version__
from fedapt_secure.cli.app import run
from fedapt_secure.cli.commands import client_run
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.process.exit_status import ExitStatus

HEAVY = ("torch", "open_clip", "opacus", "sklearn", "websockets")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, where everything that a command leaves can be seen."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_contract_of_exit_statuses() -> None:
    assert (ExitStatus.DONE, ExitStatus.FAILED, ExitStatus.BAD_INPUT, ExitStatus.INTERRUPTED) == (
        0,
        1,
        2,
        130,
    )


class TestQuickAnswers:
    @pytest.mark.parametrize(
        ("arguments", "status"),
        [
            ([], ExitStatus.BAD_INPUT),
            (["--help"], ExitStatus.DONE),
            (["--version"], ExitStatus.DONE),
            (["simulate", "--help"], ExitStatus.DONE),
            (["plan", "--help"], ExitStatus.DONE),
            (["predict", "--help"], ExitStatus.DONE),
            (["evaluate", "--help"], ExitStatus.DONE),
            (["model-info", "--help"], ExitStatus.DONE),
            (["predict", "model", "image", "--json", "--csv"], ExitStatus.BAD_INPUT),
            (["client", "ledger", "--help"], ExitStatus.DONE),
            (["client", "ledger", "show", "--help"], ExitStatus.DONE),
            (["client", "ledger"], ExitStatus.BAD_INPUT),
            (["simulate", "--rounds", "0"], ExitStatus.BAD_INPUT),
            (["simulate", "--no-dp", "--dp-epsilon", "3"], ExitStatus.BAD_INPUT),
        ],
    )
    def test_they_load_nothing_heavy(self, arguments: list[str], status: int) -> None:
        code = (
            f"import sys; from fedapt_secure.cli.app import run; status = run({arguments!r})\n"
            f"print([name for name in {HEAVY!r} if name in sys.modules], status, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stderr.splitlines()[-1] == f"[] {status}"

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--version"]) == ExitStatus.DONE
        assert capsys.readouterr() == (f"{__version__}\n", "")

    @pytest.mark.parametrize("arguments", [[], ["--help"]])
    def test_help_names_the_commands(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        run(arguments)
        out, err = capsys.readouterr()
        assert "simulate" in out
        assert "plan" in out
        assert err == ""

    def test_help_lists_every_option(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        assert run(["simulate", "--help"]) == ExitStatus.DONE
        out, _ = capsys.readouterr()
        shown = set(re.findall(r"--[a-z-]+", out)) - {"--help"}
        ours = (*SimulateSettings.model_fields, "config", "open")
        assert shown == {"--" + name.replace("_", "-") for name in ours}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused; return its one line."""
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == ExitStatus.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: \S[^\n]*\n", err), err
    assert "Traceback" not in err
    return err.removeprefix("error: ").removesuffix("\n")


class TestBadOptions:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--dataset", "mnist"], "--dataset: Input should be 'digits', 'digits-flipped', 'folder'"),
            (["--dp-epsilon", "0"], "--dp-epsilon: 0 is not in the range 0.03 to 100: below it the"),
            (["--dp-epsilon", "-1"], "--dp-epsilon: -1 is not in the range"),
            (["--dp-epsilon", "nan"], "--dp-epsilon: nan is not in the range"),
            (["--dp-epsilon", "inf"], "--dp-epsilon: inf is not in the range"),
            (["--dp-epsilon", "abc"], "Invalid value for '--dp-epsilon'"),
            (["--dp-delta", "0"], "--dp-delta: "),
            (["--dp-delta", "1"], "--dp-delta: "),
            (["--dp-delta", "nan"], "--dp-delta: "),
            (["--sample-rate", "nan"], "--sample-rate: "),
            (["--sample-rate", "1.5"], "--sample-rate: "),
            (["--momentum", "1"], "--momentum: "),
            (["--learning-rate", "0"], "--learning-rate: "),
            (["--max-grad-norm", "-1"], "--max-grad-norm: "),
            (["--update-clip", "inf"], "--update-clip: "),
            (["--update-clip", "1e30"], "--update-clip: 1e+30 is not in the range 1e-06 to 1,000,000: "),
            (["--clients", "2"], "works with 3 to 4096 institutions, not 2"),
            (["--clients", "5000"], "--clients: 5,000 is not in the range 1 to 4,096"),
            (["--clients", "two"], "Invalid value for '--clients'"),
            (["--rounds", "0"], "--rounds: 0 is not in the range 1 to 100,000"),
            (["--rounds", "100000"], "must not exceed 100,000"),
            (["--local-steps", "0"], "--local-steps: "),
            (["--seed", "-1"], "--seed: "),
            (["--device", "tpu"], "--device: Input should be 'auto', 'cpu' or 'cuda'"),
            (["--secure-aggregation", "paillier"], "--secure-aggregation: Input should be 'masking'"),
            (["--dataset", "folder"], "'folder' needs data_root"),
            (["--data-root", "."], "data_root goes with dataset 'folder', 'pacs' and the like"),
            (["--no-dp", "--dp-epsilon", "3"], "exclude each other"),
            (["--no-dp", "--dp-delta", "1e-5"], "exclude each other"),
            (["--no-dp", "--insecure-deterministic-noise"], "no_dp has no noise"),
            (["--epsilon", "3"], "No such option: --epsilon"),
            (["--rounds"], "'--rounds' requires an argument"),
            (["digits"], "unexpected extra argument"),
        ],
    )
    def test_simulate(
        self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        assert expected in refused(capsys, "simulate", *arguments)
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--fail", "clinic-9@1:share"], "no institution 'clinic-9'; there are clinic-1, clinic-2,"),
            (["--fail", "clinic-4@1:share", "--clients", "3"], "no institution 'clinic-4'"),
            (["--fail", "nonsense"], "no institution 'nonsense'"),
            (["--fail", "clinic-1@1:lunch"], f"unknown phase 'lunch'; phases are {', '.join(Phase)}"),
            (["--fail", "clinic-1@1:update"], "'masking' has the phases advertise, share, masked_input"),
            (["--fail", "clinic-1@31:share"], "there are 30 rounds only"),
            (["--fail", "clinic-1@3:share", "--rounds", "2"], "there are 2 rounds only"),
            (["--fail", "clinic-1@0:share"], "a round from 1"),
            (["--fail", "clinic-1"], "expected ROUND:PHASE"),
            (["--fail", "clinic-1@1:share", "--fail", "clinic-2@1:"], "unknown phase ''"),
            (["--model", "no-such-model"], "no model no-such-model"),
            (["--update-clip", "1e6", "--learning-rate", "0.001"], "clip 1,000,000 is too large: a round"),
            (
                ["--update-clip", "1e-6"],
                "clip 1e-06 is too small: a round of this plan changes a parameter by",
            ),
            (["--pretrained", "no-such-file.pt"], "pretrained"),
        ],
    )
    def test_what_only_the_run_can_know(
        self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        assert expected in refused(capsys, "simulate", *arguments)
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], "give --records, or --persons"),
            (["--records", "270"], "give --epsilon, or an institution's folder with --dir"),
            (["--epsilon", "8"], "give --records, or --persons"),
            (["--epsilon", "8", "--records", "270", "--persons", "27"], "give --records, or --persons"),
            (["--epsilon", "8", "--persons", "0"], "--persons: 0 is not in the range 1 to"),
            (["--epsilon", "abc", "--records", "270"], "Invalid value for '--epsilon'"),
            (["--epsilon", "nan", "--records", "270"], "--epsilon: nan is not in the range"),
            (["--epsilon", "inf", "--records", "270"], "--epsilon: inf is not in the range"),
            (["--epsilon", "0", "--records", "270"], "--epsilon: 0 is not in the range"),
            (["--epsilon", "-1", "--records", "270"], "--epsilon: -1 is not in the range"),
            (["--epsilon", "0.01", "--records", "270"], "the accountant, exact to 0.01"),
            (["--epsilon", "500", "--records", "270"], "--epsilon: 500 is not in the range 0.03 to 100"),
            (["--epsilon", "8", "--records", "0"], "--records: 0 is not in the range 1 to"),
            (["--epsilon", "8", "--records", "-3"], "--records: -3 is not in the range 1 to"),
            (["--epsilon", "8", "--records", "270", "--rounds", "0"], "--rounds: 0 is not in the range"),
            (
                ["--epsilon", "8", "--records", "270", "--local-steps", "0"],
                "--local-steps: 0 is not in the range",
            ),
            (["--epsilon", "8", "--records", "270", "--rounds", "50000"], "must not exceed 100,000"),
            (
                ["--epsilon", "8", "--records", "270", "--delta", "nan"],
                "delta must be above 0 and at most 0.01",
            ),
            (
                ["--epsilon", "8", "--records", "270", "--delta", "1"],
                "delta must be above 0 and at most 0.01",
            ),
            (["--epsilon", "8", "--records", "270", "--sample-rate", "0"], "--sample-rate: 0 is not in"),
            (["--epsilon", "8", "--records", "270", "--sample-rate", "nan"], "--sample-rate: nan is not in"),
        ],
    )
    def test_plan(self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert expected in refused(capsys, "plan", *arguments)

    @pytest.mark.parametrize("arguments", [["simulat"], ["--nonsense"], ["--rounds", "3"]])
    def test_what_is_no_command(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert refused(capsys, *arguments).startswith("No such ")

    def test_markup_in_a_mistake_is_shown_as_it_was_typed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "[red]x[/]" in refused(capsys, "simulate", "--config", "[red]x[/]")


class TestFolders:
    @pytest.mark.parametrize("root", ["missing", "file", "loop", "empty"])
    def test_a_data_root_that_cannot_be_used(
        self, root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        (tmp_path / "empty").mkdir()
        path = tmp_path / root
        line = refused(capsys, "simulate", "--dataset", "folder", "--data-root", path, "--out", "run")
        assert str(path) in line
        assert list(here.iterdir()) == []

    def test_a_run_folder_that_holds_something_stays_as_it_is(
        self, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        (here / "run").mkdir()
        (here / "run" / "thesis.txt").write_text("three years")
        assert "run is not empty: choose another with --out" in refused(capsys, "simulate", "--out", "run")
        assert [path.name for path in (here / "run").iterdir()] == ["thesis.txt"]
        assert (here / "run" / "thesis.txt").read_text() == "three years"

    @pytest.mark.parametrize("out", ["file", "file/run"])
    def test_a_run_folder_that_cannot_be_made(
        self, out: str, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        (here / "file").write_text("x")
        assert f"cannot make the run folder {out}: " in refused(capsys, "simulate", "--out", out)
        assert [path.name for path in here.iterdir()] == ["file"]
        assert (here / "file").read_text() == "x"


class TestConfigFile:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("rounds: 3\nclients: [\n", ", line 3: "),
            ("rounds: 3\n  clients: 4\n", ", line 2: "),
            ("rouds: 3\n", ": unknown option 'rouds'; did you mean 'rounds'?"),
            ("dp-epsilon: 3\n", ": unknown option 'dp-epsilon'; did you mean 'dp_epsilon'?"),
            ("- rounds\n", ": expected 'option: value' lines"),
            ("rounds: many\n", ": rounds: Input should be a valid integer"),
            ("no_dp: true\ndp_epsilon: 3\n", "exclude each other"),
            ("dataset: folder\n", "'folder' needs data_root"),
        ],
    )
    def test_a_mistake_in_it_names_the_file(
        self, text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        file = tmp_path / "run.yaml"
        file.write_text(text)
        line = refused(capsys, "simulate", "--config", file, "--no-dp", "--clients", "4")
        assert line.startswith(str(file))
        assert expected in line
        assert list(here.iterdir()) == []

    def test_a_missing_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = refused(capsys, "simulate", "--config", tmp_path / "none.yaml")
        assert line == f"cannot read {tmp_path / 'none.yaml'}: No such file or directory"

    @pytest.mark.parametrize(
        ("text", "arguments", "expected"),
        [
            ("", [], {}),
            ("rounds: 3\nclients: 4\n", [], {"rounds": 3, "clients": 4}),
            ("rounds: 3\nclients: 4\n", ["--rounds", "2"], {"rounds": 2, "clients": 4}),
            ("dp_epsilon: 3\ndp_delta: 1.0e-5\n", ["--no-dp"], {"no_dp": True}),
            ("no_dp: true\n", ["--dp-epsilon", "2"], {"dp_epsilon": 2.0}),
            ("no_dp: true\nbatch_size: 8\nlocal_epochs: 2\n", ["--dp-epsilon", "2"], {"dp_epsilon": 2.0}),
            ("no_dp: true\n", ["--dp-delta", "1e-5"], {"dp_delta": 1e-5}),
            ("no_dp: true\n", [], {"no_dp": True}),
            ("dp_epsilon: 3\n", ["--dp-epsilon", "2"], {"dp_epsilon": 2.0}),
            ("dp_epsilon: 3\n", ["--dp-delta", "1e-5"], {"dp_epsilon": 3.0, "dp_delta": 1e-5}),
            ("fail: [clinic-1@1:share]\n", [], {"fail": ("clinic-1@1:share",)}),
            (
                "fail: [clinic-1@1:share]\n",
                ["--fail", "clinic-2@2:share", "--fail", "clinic-3@1:unmask"],
                {"fail": ("clinic-2@2:share", "clinic-3@1:unmask")},
            ),
        ],
    )
    def test_the_command_line_wins(
        self,
        text: str,
        arguments: list[str],
        expected: dict[str, object],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        file = tmp_path / "run.yaml"
        file.write_text(text)
        asked: list[SimulateSettings] = []
        # Only what would take a minute is left out: the run itself.
        monkeypatch.setattr(
            "fedapt_secure.simulate.command.simulate", lambda settings, console: asked.append(settings)
        )
        assert run(["simulate", "--config", str(file), *arguments]) == ExitStatus.DONE
        assert asked == [SimulateSettings(**expected)]

    def test_both_on_the_command_line_are_refused_whatever_the_file_says(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "run.yaml"
        file.write_text("dp_epsilon: 3\n")
        line = refused(capsys, "simulate", "--config", file, "--no-dp", "--dp-delta", "1e-5")
        assert "exclude each other" in line


class TestPlan:
    def test_as_json(self, capsys: pytest.CaptureFixture[str], here: Path) -> None:
        assert (
            run(["plan", "--epsilon", "8", "--records", "279", "--rounds", "2", "--json"]) == ExitStatus.DONE
        )
        out, err = capsys.readouterr()
        assert err == ""
        plan = json.loads(out)
        spent = plan["epsilon_after_round"]
        assert len(spent) == 2
        assert 0 < spent[0] < spent[1] <= 8
        assert spent[1] > 7.9, "the budget is used, not left over"
        assert plan["declared_records"] == 270
        assert plan["delta"] == 1 / 540
        assert plan["steps"] == 8
        assert plan["epsilon_budget"] == 8
        assert plan["sample_rate"] == 0.5
        assert plan["unit"] == "image"
        assert "too large for patients" in plan["warning"]
        assert list(here.iterdir()) == []

    def test_per_person(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        assert run(["plan", "--epsilon", "8", "--persons", "279", "--rounds", "2"]) == ExitStatus.DONE
        shown = capsys.readouterr().out
        assert "270 declared persons; per person" in shown
        assert "1/(10 x 270 persons)" in shown

    def test_under_an_institutions_own_policy(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        (tmp_path / "client.yaml").write_text("name: a\nport: 1\ndata: x\npolicy: rules.yaml\n")
        (tmp_path / "rules.yaml").write_text("max_epsilon: 6\nsession_epsilon: 3\n")
        arguments = ["plan", "--dir", str(tmp_path), "--records", "279", "--rounds", "2"]
        assert run([*arguments, "--json"]) == ExitStatus.DONE
        plan = json.loads(capsys.readouterr().out)
        assert (plan["epsilon_budget"], plan["delta"]) == (3.0, 2.5e-6)
        assert plan["policy_source"] == str(tmp_path / "rules.yaml")
        assert plan["would_be_refused"] is None
        assert run([*arguments, "--epsilon", "8"]) == ExitStatus.DONE
        out = capsys.readouterr().out
        assert f"policy ({tmp_path / 'rules.yaml'}): one session at most ε 3 and δ 2.5e-06" in out
        assert "would be refused: more than session_epsilon in rules.yaml allows" in out

    def test_as_a_table(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        arguments = ["--epsilon", "8", "--records", "279", "--rounds", "2", "--delta", "1e-5"]
        assert run(["plan", *arguments]) == ExitStatus.DONE
        out, err = capsys.readouterr()
        assert err == ""
        rows = re.findall(r"│ +(\d+) │ +(\d+) │ +([\d.]+) │", out)
        assert [row[:2] for row in rows] == [("1", "4"), ("2", "8")]
        assert float(rows[0][2]) < float(rows[1][2]) <= 8
        assert "270 declared records" in out
        assert "patients" not in out, "no warning where delta is small"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_follows_from_images_is_said_on_a_terminal_alone(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe or a service's journal would keep it."""
    monkeypatch.setattr(client_run, "console", lambda: Console(force_terminal=terminal, soft_wrap=True))
    client_run._on_terminal(("3 image files are copies",))
    assert ("3 image files are copies" in capsys.readouterr().out) is terminal


def open_when_read(pipe: Path, reader: subprocess.Popen[str]) -> int:
    """Open the writing end of a named pipe as soon as ``reader`` has the other; fail if it ends before."""
    while reader.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says that nobody reads yet
                raise
            time.sleep(0.01)
    raise AssertionError(f"it ended before it read: {reader.stderr.read()}")


def test_an_interrupt_is_no_traceback(tmp_path: Path) -> None:
    # A named pipe holds the command where we want it: it is reading when the writing end opens.
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    code = (
        "import signal, sys; from fedapt_secure.cli.app import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been inherited as ignored\n"
        "sys.exit(run(['simulate', '--config', sys.argv[1]]))"
    )
    arguments = [sys.executable, "-c", code, str(pipe)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        writing_end = open_when_read(pipe, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        os.close(writing_end)
    assert (child.returncode, out) == (ExitStatus.INTERRUPTED, "")
    assert err.splitlines() in ([], ["interrupted"])


@pytest.mark.integration
@pytest.mark.timeout(60)
def test_a_run_without_a_result_has_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("dark", "light"):
        folder = tmp_path / "data" / "domain" / label
        folder.mkdir(parents=True)
        for number in range(12):
            shade = number + (200 if label == "light" else 0)
            Image.new("L", (8, 8), shade).save(folder / f"{number}.png")
    arguments = ["--dataset", "folder", "--data-root", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    arguments += ["--no-dp", "--secure-aggregation", "none", "--rounds", "1", "--local-steps", "1"]
    assert (
        run(["simulate", *arguments, "--device", "cpu", "--fail", "clinic-1@1:update"]) == ExitStatus.FAILED
    )
    _, err = capsys.readouterr()
    assert re.fullmatch(r"failed: no round was completed[^\n]*\n", err), err
    assert (tmp_path / "run" / "logs" / "coordinator.jsonl").exists(), "what explains it is kept"
