"""The one table of exit statuses: which error ends a process how, and that the document shows it."""

import errno
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedapt_crypto import errors
from fedapt_crypto.errors import LACKING, FedaptError, InvalidInput, RunFailed, Unavailable, system_error
from fedapt_secure.process.exit_status import MEANING, ExitStatus, status_of

PAGE = Path(__file__).parents[2] / "docs" / "exit-status.md"
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, FedaptError)]


def test_the_document_shows_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.M)
    assert rows == [
        (str(status.value), status.name.lower().replace("_", " "), MEANING[status]) for status in ExitStatus
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_status(kind: type[FedaptError]) -> None:
    expected = ExitStatus.FAILED
    if issubclass(kind, InvalidInput):
        expected = ExitStatus.BAD_INPUT
    elif issubclass(kind, Unavailable):
        expected = ExitStatus.UNAVAILABLE
    assert status_of(kind.__new__(kind)) is expected


def test_what_the_machine_lacks_is_nobodys_bad_input() -> None:
    assert not issubclass(Unavailable, InvalidInput | RunFailed)
    for number in LACKING:
        found = system_error("cannot write FILE", OSError(number, "said", "FILE"))
        assert isinstance(found, Unavailable)
        assert str(found).startswith(f"cannot write FILE: {os.strerror(number)}; ")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP])
def test_a_wrong_path_is_bad_input(number: int) -> None:
    assert isinstance(system_error("cannot read FILE", OSError(number, "said", "FILE")), InvalidInput)


def test_a_reader_that_goes_away_while_a_screen_writes_is_no_mistake_of_ours() -> None:
    """What rich had to write is lost with the pipe, so that there is nothing left by which to tell."""
    code = (
        "import sys\n"
        "from fedapt_secure.process.ending import guarded\n"
        "from fedapt_secure.process.screen import Screen\n"
        "def work():\n"
        "    for _ in range(100):\n"
        "        Screen().print('word ' * 2000)\n"
        "    return 0\n"
        "sys.exit(guarded(work))"
    )
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (ExitStatus.READER_GONE, "")
