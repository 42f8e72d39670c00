"""Run the model of the masking protocol through the model checker Spin: what holds, and what a rule is for.

    python crypto/model/check.py [--quick] [--jobs N] [--trace RUN] [--list]

Three kinds of runs: every state that the coordinator can reach keeps the properties; good runs are found; and
where a rule is left out, or a bound is passed, the checker finds how the property breaks. Exit status 0 if
all came out as they have to, 1 if one did not, 2 if a program is missing. What is compiled lies in a
temporary folder.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

MODEL = Path(__file__).parent / "masking.pml"
PROGRAMS = ("spin", "gcc")
PROPERTIES: Mapping[str, str] = {
    "a": "never both secrets of an institution in one execution",
    "b": "shares for one survivor set in an execution",
    "c": "no unverified model is accepted",
    "d": "sums over one survivor set on a model, two at most",
    "e": "one model after each round, and after each model",
    "f": "no sum over different models or group secrets",
    "g": "who catches up takes what an honest institution verified",
}
MEMORY_MB = 3000
LONGEST_S = 900

Numbers = Mapping[str, int | str]
SMALLEST: Numbers = {"N": 3, "T": 2, "C": 0, "E": 2}
THREE: Numbers = {**SMALLEST, "RESTARTS": 1}
THREE_TRIES: Numbers = {**SMALLEST, "E": 3}
FOUR: Numbers = {"N": 4, "T": 3, "C": 0, "E": 2}
COLLUDER: Numbers = {"N": 4, "T": 3, "C": 1, "E": 2}


@dataclass(frozen=True)
class Run:
    """One search through the states.

    Attributes:
        name: What the run is called on the command line.
        says: What it shows, in words.
        numbers: Macros of the model.
        properties: The letters of the properties that are checked; none for a good run.
        found: Whether the checker has to find a trace: a property broken, or a good run.
        optimise: How gcc compiles the search: slowly for long ones.
    """

    name: str
    says: str
    numbers: Numbers
    properties: str = ""
    found: bool = True
    optimise: str = "-O0"

    def macros(self) -> list[str]:
        """Return the options that choose all this."""
        checked = sum(2 ** (1 + list(PROPERTIES).index(letter)) for letter in self.properties)
        return [f"-D{name}={value}" for name, value in {**self.numbers, "CHECKED": checked}.items()]


@dataclass(frozen=True)
class Outcome:
    """What a search came to: as it had to or not, and its figures."""

    run: Run
    right: bool
    what: str
    states: int = 0
    memory_mb: float = 0.0
    seconds: float = 0.0
    steps: Sequence[str] = field(default_factory=tuple)


def holds(name: str, says: str, numbers: Numbers, properties: str = "abcdefg") -> Run:
    """Return a run in which the properties hold in every state. Arguments: see `Run`."""
    return Run(name, says, numbers, properties, found=False, optimise="-O2")


def without(rule: str, breaks: str, numbers: Numbers, says: str) -> Run:
    """Return a run without a rule of the model, which has to break a property. Arguments: see `Run`."""
    name = "without-" + rule.lower().replace("_", "-")
    return Run(f"{name}-{breaks}", says, {**numbers, "WITHOUT": rule}, breaks)


RUNS: Sequence[Run] = (
    holds("four", "4 institutions, t = 3, two executions", FOUR),
    holds("three-tries", "3 institutions, t = 2, three executions", THREE_TRIES),
    holds("rewound", "one colludes, forged sums lead back to the start", {**COLLUDER, "FORGE": 2}, "abfg"),
    holds("forged", "one colludes and gives the group secret away", {**COLLUDER, "FORGE": 1}, "abdfg"),
    holds("colluder", "4 institutions, one colludes, restarts", {**COLLUDER, "RESTARTS": 1}),
    holds("three", "3 institutions, restarts, two makers of group secrets", {**THREE, "SECRETS": 2}),
    Run("smallest", "3 institutions, t = 2, two executions", SMALLEST, "abcdefg", found=False),
    Run("good-two-rounds", "all verify two rounds", {**THREE, "GOAL": 1}),
    Run("good-catching-up", "one misses a round, catches up, takes part again", {**THREE, "GOAL": 2}),
    Run("good-second-try", "a withheld sum, the same set tried again, verified", {**THREE, "GOAL": 3}),
    Run("good-dropout", "a round without one institution", {**THREE, "GOAL": 4}),
    without("ONE_SET", "a", THREE, "an institution signs and reveals twice in an execution"),
    without("SIGNATURES", "b", THREE, "shares without t signatures"),
    without("TAG", "c", THREE, "sums are taken unchecked"),
    without("ONE_STATEMENT", "c", THREE, "v - 1 statements are enough, and v - 1 is none"),
    without("UNRESOLVED_RULE", "d", THREE, "another survivor set after a withheld sum"),
    without("RECORD", "d", THREE, "no record of shares revealed"),
    without("RECORD_ON_DISK", "d", THREE, "a restart forgets the record"),
    without("END", "d", THREE_TRIES, "a third execution on one model"),
    without("LEAVING", "d", THREE, "an execution goes on after its institution took a newer model"),
    without("OWN_MODEL", "d", THREE, "the coordinator says what the model is"),
    without("NEWEST_ONLY", "e", THREE, "the withheld sum of an older execution is taken late"),
    without("NEWER_ROUND", "e", THREE, "a round is run again after it was verified"),
    without("RECORD_BESIDE_MODEL", "e", THREE, "a restart keeps a model whose record was not written yet"),
    without("MODEL_IN_CONTEXT", "f", THREE, "institutions with different models in one execution"),
    without("COMMITMENT_IN_CONTEXT", "f", {**THREE, "SECRETS": 2}, "with different group secrets"),
    without("ONE_STATEMENT", "g", COLLUDER, "v - 1 statements, all of colluders"),
    Run("bound-shares", "2t > n + c does not hold", {**COLLUDER, "N": 3, "T": 2}, "a"),
    Run("bound-unverified", "a colluder knows the group secret", {**COLLUDER, "FORGE": 1}, "c"),
    Run("bound-fork", "the same, and two institutions get different sums", {**COLLUDER, "FORGE": 1}, "e"),
    Run("bound-frozen", "the same, and the model comes back", {**COLLUDER, "FORGE": 2}, "d"),
)
QUICK = ("smallest", "good-catching-up", "without-unresolved-rule-d")


def search(run: Run, *, shortest: bool = False) -> Outcome:
    """Let Spin write the checker for a run, compile it, search, and judge what came out.

    Args:
        run: What to search.
        shortest: Breadth first, so that a trace that is found is a shortest one; its steps are told.
    """
    with tempfile.TemporaryDirectory(prefix="fedapt-model-") as name:
        folder = Path(name)
        shutil.copy(MODEL, folder)
        options = [
            "-DSAFETY",
            "-DNOFAIR",
            "-DNOREDUCE",
            f"-DMEMLIM={MEMORY_MB}",
            *(["-DBFS"] if shortest else []),
        ]
        start = time.monotonic()
        try:
            _call(["spin", *run.macros(), "-a", MODEL.name], folder)
            _call(["gcc", run.optimise, "-w", *options, "-o", "pan", "pan.c"], folder)
            said = _call(["./pan", "-m1000", "-E", "-n"], folder)
            steps = _steps(run, folder) if shortest and (folder / f"{MODEL.name}.trail").exists() else ()
        except subprocess.SubprocessError as error:
            return Outcome(run, right=False, what=f"did not run: {error}")
        return judged(run, said, time.monotonic() - start, steps)


def judged(run: Run, said: str, seconds: float, steps: Sequence[str] = ()) -> Outcome:
    """Return what the checker's report means for a run.

    Args:
        run: What was searched.
        said: The report of the compiled checker.
        seconds: How long it took, with writing and compiling.
        steps: The trace, if one was found and asked for.
    """
    states = re.search(r"(\d+) states, stored", said)
    memory = re.search(r"([\d.]+)\s+total actual memory", said)
    broken = "assertion violated" in said
    whole = "errors: 0" in said and not re.search(r"not completed|too small|out of memory|max search", said)
    if broken:
        what = "found" if run.found else f"BROKEN: {', '.join(run.properties)}"
    elif whole:
        what = "NOT FOUND" if run.found else "holds"
    else:
        what = "NOT SEARCHED TO THE END"
    return Outcome(
        run,
        right=broken if run.found else whole and not broken,
        what=what,
        states=int(states[1]) if states else 0,
        memory_mb=float(memory[1]) if memory else 0.0,
        seconds=seconds,
        steps=steps,
    )


def _call(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - our own model, and what was compiled from it
        command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    if done.returncode and command[0] != "./pan":
        raise subprocess.SubprocessError(f"{command[0]}: {(done.stdout + done.stderr).strip()[:500]}")
    return done.stdout


def _steps(run: Run, folder: Path) -> list[str]:
    """Return the trace as sentences, sets by their members."""
    lines = _call(["spin", "-t", *run.macros(), MODEL.name], folder).splitlines()
    steps = [line.strip() for line in lines if re.match(r"\s+(\d|the coordinator) ", line)]

    def members(found: re.Match[str]) -> str:
        return "{" + ", ".join(str(i) for i in range(8) if int(found[1]) >> i & 1) + "}"

    return [re.sub(r"set (\d+)", members, step) for step in steps]


def told(outcome: Outcome) -> str:
    """Return one line about a run."""
    run = outcome.run
    figures = f"{outcome.states:>10,} states {outcome.memory_mb:6.0f} MB {outcome.seconds:5.0f} s"
    mark = "ok " if outcome.right else "BAD"
    return f"{mark} {run.name:<32} {run.properties or '-':<8} {outcome.what:<10} {figures}  {run.says}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status.

    Args:
        arguments: Those of the command line if not given.
    """
    parser = argparse.ArgumentParser(
        description="Check the model of the masking protocol with Spin (needs spin and gcc; minutes, 4 GB)."
    )
    parser.add_argument("--quick", action="store_true", help="the smallest runs only: " + ", ".join(QUICK))
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs beside each other (2)")
    parser.add_argument(
        "--trace",
        choices=[run.name for run in RUNS if run.found],
        metavar="RUN",
        help="tell a shortest trace, see --list",
    )
    parser.add_argument("--list", action="store_true", help="say what there is to run, and run nothing")
    chosen = parser.parse_args(arguments)
    runs = [run for run in RUNS if not chosen.quick or run.name in QUICK]
    if chosen.list:
        _say(*(f"{letter}: {says}" for letter, says in PROPERTIES.items()))
        _say(*(f"{run.name:<32} {run.properties or '-':<8} {run.says}" for run in runs))
        return 0
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        _say(f"{' and '.join(missing)} not found: install Spin 6.5 and gcc, then run this again")
        return 2
    if chosen.trace:
        outcome = search(next(run for run in RUNS if run.name == chosen.trace), shortest=True)
        _say(*outcome.steps, told(outcome))
        return int(not outcome.right)
    start = time.monotonic()
    right = 0
    with ThreadPoolExecutor(max(1, chosen.jobs)) as pool:
        for outcome in pool.map(search, runs):
            _say(told(outcome))
            right += outcome.right
    _say(f"{right} of {len(runs)} runs came out as they have to, {time.monotonic() - start:.0f} s")
    return int(right < len(runs))


def _say(*lines: str) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
