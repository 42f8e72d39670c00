"""Follow a page of the documents, command by command, and compare what it shows with what happens.

A page's blocks fenced as ``console`` are one conversation with one shell: lines that begin with ``$ `` are
typed, the others are what the page says is printed (``...`` stands for any lines). What differs from run to
run (fingerprints, dates, measured numbers) is compared by form. Ports are exchanged for free ones, the folder
for a temporary one. ``python -m tests.deploy.walkthrough PAGE --write`` puts into the page what is printed.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import warm
from tests.support.offices import free_port

ROOT = Path(__file__).parents[2]
FENCE = "```"
ANYTHING = "..."
PORTS = ("8443", "8444", "9090")
SHOWN_FOLDER = "…/trial"
STEP_TIMEOUT_S = 240
MARK = "--walkthrough-step-done--"
FORMS = (
    (
        re.compile(r"\b(?:[0-9a-f]{4} ){1,9}[0-9a-f]{4}\b"),
        "FINGERPRINT",
    ),  # a table may break one over two lines
    (re.compile(r"fedapt1-[\w-]+"), "JOIN"),
    (re.compile(r"\b[0-9a-f]{12,}\b|\b[0-9a-f]{8}(?=…)"), "HEX"),
    (re.compile(r"\b20\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\+00:00|Z)?)?"), "DATE"),
    (re.compile(r"^\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\bline \d+ of \d+\b"), "LINE"),
    (re.compile(r"\b\d+(?:\.\d+)+\b|\b\d+(?= s\b)"), "NUMBER"),
    (re.compile(r"[ ]{2,}|[─━]{2,}"), "  "),
)
STATUS = {"error: ": 2, "failed: ": 1, "wrong ": 1, "TAMPERED": 1}


@dataclass
class Step:
    """One command of a page.

    Attributes:
        line: Its line in the page, from 0. length: How many lines command and output take there.
        command: What is typed. shown: What the page says is printed.
        printed: What was printed.
    """

    line: int
    command: str
    length: int = 1
    shown: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    @property
    def expected_status(self) -> int:
        """The exit status that goes with what is shown."""
        found = [status for line in self.shown for start, status in STATUS.items() if line.startswith(start)]
        return found[0] if found else 0


def steps(page: Path) -> list[Step]:
    """Return the commands of a page in order."""
    found: list[Step] = []
    inside = False
    for number, line in enumerate(page.read_text().splitlines()):
        if line.startswith(FENCE):
            inside = line == f"{FENCE}console"
        elif inside and line.startswith("$ "):
            found.append(Step(number, line[2:]))
        elif inside:
            step = found[-1]
            if step.command.endswith("\\") and step.length == step.command.count("\n") + 1:
                step.command += "\n" + line
            else:
                step.shown.append(line)
            step.length += 1
    return found


def form(text: str) -> str:
    """Return a line without what differs from run to run."""
    for pattern, name in FORMS:
        text = pattern.sub(name, text)
    return text.rstrip()


def agree(shown: list[str], printed: list[str]) -> bool:
    """Whether a page shows what was printed."""
    pattern = "".join(r"(?:.*\n)*" if line == ANYTHING else re.escape(form(line)) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(form(line) + "\n" for line in printed)) is not None


class Shell:
    """One bash that commands are typed into.

    Args:
        folder: Where it starts.
        names: What is exchanged in commands, and back in what they print.
        prelude: What is typed before anything else.
        command: What starts the shell.
        environment: All that it sees of the world; by default this process' own, with the program on the path
            and ports that are free.
    """

    def __init__(
        self,
        folder: Path,
        names: Mapping[str, str],
        prelude: str = "",
        *,
        command: Sequence[str] = ("bash", "--norc"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.names = dict(names)
        if environment is None:
            self.names |= {port: str(free_port()) for port in PORTS}
            environment = self._own(folder)
        self._bash = subprocess.Popen(
            command, cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.run(prelude)

    def _own(self, folder: Path) -> dict[str, str]:
        programs = folder / ".bin"
        programs.mkdir()
        program = programs / "fedapt-secure"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(warm.program())} "$@"\n')
        program.chmod(0o755)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FEDAPT_", "HTTP", "http"))}
        return clean | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "COLUMNS": "100",
        }

    def run(self, command: str) -> tuple[int, list[str]]:
        """Type a command; return its exit status and what was printed until it ended."""
        for name, real in self.names.items():
            command = command.replace(name, real)
        status, printed = self._type(command)
        for name, real in reversed(self.names.items()):
            printed = [line.replace(real, name) for line in printed]
        return status, printed

    def close(self) -> None:
        """End the shell, and whatever it has left running."""
        try:
            os.killpg(self._bash.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._bash.communicate()

    def _type(self, command: str) -> tuple[int, list[str]]:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # What it reads would otherwise be the rest of the conversation.
        self._bash.stdin.write(f"{{ {command or ':'}\n}} < /dev/null\nprintf '\\n%s %s\\n' {MARK} $?\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        overdue = threading.Timer(STEP_TIMEOUT_S, os.killpg, (self._bash.pid, signal.SIGKILL))
        overdue.start()
        try:
            for line in self._bash.stdout:
                if line.startswith(MARK):
                    while printed and not printed[-1]:
                        printed.pop()
                    return int(line.split()[1]), printed
                printed.append(line.rstrip())
        finally:
            overdue.cancel()
        raise AssertionError(f"{command!r} did not end within {STEP_TIMEOUT_S} s; so far: {printed[-5:]}")


def follow(page: Path, folder: Path, names: Mapping[str, str] | None = None, prelude: str = "") -> list[Step]:
    """Do what a page says in a folder; every command must end with the status that the page shows."""
    shell = Shell(folder, {SHOWN_FOLDER: str(folder)} if names is None else names, prelude)
    try:
        return follow_in(shell, page, after=lambda: use_free_ports(folder, shell.names))
    finally:
        shell.close()


def follow_in(
    shell: Shell,
    page: Path,
    meanwhile: Mapping[str, str] | None = None,
    after: Callable[[], None] = lambda: None,
) -> list[Step]:
    """Do what a page says in a shell; every command must end with the status that the page shows.

    Args:
        shell: Where to type.
        page: What is followed.
        meanwhile: What other people do before each command that begins with the key.
        after: Done after each command.
    """
    done: list[Step] = []
    for step in steps(page):
        for beginning, others in (meanwhile or {}).items():
            if step.command.startswith(beginning):
                status, printed = shell.run(others)
                assert status == 0, f"before {step.command}: {others}: {printed[-8:]}"
        status, step.printed = shell.run(step.command)
        last = "\n".join(step.printed[-30:])
        assert status == step.expected_status, f"{page.name}:{step.line + 1}: {step.command}\n{last}"
        after()
        done.append(step)
    return done


def use_free_ports(folder: Path, names: Mapping[str, str]) -> None:
    """Exchange the default of the health port, which no command names."""
    for path in folder.glob("*/server.yaml"):
        text = path.read_text()
        if "# health_port: 9090" in text:
            path.write_text(text.replace("# health_port: 9090", f"health_port: {names['9090']}"))


def rewritten(page: Path, done: list[Step]) -> str:
    """Return a page with what one run really printed; what is rightly shown as ``...`` stays."""
    lines = page.read_text().splitlines()
    for step in reversed(done):
        if "..." not in step.shown or not agree(step.shown, step.printed):
            end = step.line + step.length
            lines[end - len(step.shown) : end] = step.printed
    return "\n".join(lines) + "\n"


def main() -> None:
    """Follow a page and show where it is wrong, or put it right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--write", action="store_true", help="put what is really printed into the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = follow(options.page, Path(folder))
    for step in done:
        if not agree(step.shown, step.printed):
            print(f"{options.page}:{step.line + 1}: {step.command}", *step.printed, sep="\n    ")
    if options.write:
        options.page.write_text(rewritten(options.page, done))


if __name__ == "__main__":
    main()
