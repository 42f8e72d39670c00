"""The model of the masking protocol: its smallest runs, and that a rule which is not missed is noticed."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "crypto" / "model" / "check.py"
needs_spin = pytest.mark.skipif(
    not all(shutil.which(program) for program in ("spin", "gcc")), reason="Spin or gcc is not installed"
)


@pytest.fixture(scope="module")
def check() -> ModuleType:
    specification = importlib.util.spec_from_file_location("masking_model_check", COMMAND)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@needs_spin
def test_the_smallest_runs_come_out_as_they_have_to() -> None:
    before = sorted(COMMAND.parent.iterdir())
    done = subprocess.run([sys.executable, COMMAND, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") == 2
    assert "3 of 3 runs" in done.stdout
    assert [path for path in sorted(COMMAND.parent.iterdir()) if path.name != "__pycache__"] == before


@needs_spin
def test_a_mutation_that_breaks_nothing_is_bad(check: ModuleType) -> None:
    harmless = check.Run("harmless", "no rule is left out", check.SMALLEST, "d")
    outcome = check.search(harmless)
    assert (outcome.right, outcome.what) == (False, "NOT FOUND")
    assert outcome.states > 100_000


@needs_spin
def test_a_property_that_breaks_is_bad(check: ModuleType) -> None:
    careless = check.Run("careless", "", {**check.SMALLEST, "WITHOUT": "TAG"}, "c", found=False)
    outcome = check.search(careless)
    assert (outcome.right, outcome.what) == (False, "BROKEN: c")


@needs_spin
def test_a_trace_is_told_in_words() -> None:
    command = [sys.executable, COMMAND, "--trace", "without-unresolved-rule-d"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    sums = [line for line in told if line.startswith("the coordinator has the sum")]
    assert len(sums) == 2
    assert len({line.partition("over ")[2] for line in sums}) == 2


def test_a_search_that_was_cut_short_proves_nothing(check: ModuleType) -> None:
    run = check.holds("any", "", check.SMALLEST)
    whole = "State-vector 132 byte, depth reached 28, errors: 0\n   153859 states, stored\n"
    assert check.judged(run, whole, 0.0).right
    for said in (
        "error: max search depth too small\n" + whole,
        "Warning: Search not completed\n" + whole,
        "",
    ):
        assert not check.judged(run, said, 0.0).right


def test_every_rule_of_the_model_is_left_out_once(check: ModuleType) -> None:
    text = check.MODEL.read_text()
    named = text.partition("/* the rule that is left out: */")[2].partition("#define V ")[0]
    rules = {line.split()[1] for line in named.splitlines() if line.startswith("#define")}
    assert len(rules) == 15
    assert rules == {run.numbers["WITHOUT"] for run in check.RUNS if "WITHOUT" in run.numbers}
    assert {letter for run in check.RUNS if run.found for letter in run.properties} == set(check.PROPERTIES)


def test_a_missing_program_is_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, str(COMMAND), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines() == [
        "spin and gcc not found: install Spin 6.5 and gcc, then run this again"
    ]
