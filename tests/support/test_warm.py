"""A warm command is to whoever starts it what a cold one is: streams, folder, status, signals."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import warm

TELLS = """
import os, sys
mask = os.umask(0)
print(os.getcwd(), os.environ["WHERE"], oct(mask), sys.argv[1:], sys.stdin.read())
print("torch" in sys.modules, file=sys.stderr)
sys.exit(7)
"""
WAITS = """
import os, sys, time
open(sys.argv[1], "w").write(str(os.getpid()))
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(3)
"""
pytestmark = pytest.mark.integration


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(text)
    return [*warm.program("script"), str(path)]


def started(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    """Return a command that waits, and the process that really waits."""
    pid = tmp_path / "pid"
    process = subprocess.Popen([*script(tmp_path, WAITS), str(pid)], stdout=subprocess.PIPE, text=True)
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.01)
    return process, int(pid.read_text())


def test_it_is_as_it_was_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [*script(tmp_path, TELLS), "a b", "c"],
        cwd=tmp_path,
        env=os.environ | {"WHERE": "here"},
        umask=0o27,
        input="in",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{tmp_path} here 0o27 ['a b', 'c'] in\n"
    assert done.stderr == "True\n", "or it was no use"
    assert done.returncode == 7


def test_its_streams_have_the_encoding_that_was_asked_for(tmp_path: Path) -> None:
    for encoding, expected in (("latin-1", b"\xe9"), ("utf-8", b"\xc3\xa9"), ("ascii:namereplace", b"\\N{")):
        done = subprocess.run(
            script(tmp_path, "print('\N{LATIN SMALL LETTER E WITH ACUTE}')"),
            env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
        )
        assert done.stdout.startswith(expected)


def test_a_traceback_is_shown_and_ends_with_one(tmp_path: Path) -> None:
    done = subprocess.run(script(tmp_path, "1 / 0"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_signals_reach_it(tmp_path: Path) -> None:
    process, _ = started(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "interrupted\n"
    assert process.returncode == 3
    (tmp_path / "pid").unlink()
    process, _ = started(tmp_path)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


def test_it_does_not_outlive_whoever_asked(tmp_path: Path) -> None:
    process, pid = started(tmp_path)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_is_the_real_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [*warm.program(), "client", "status", "--dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
