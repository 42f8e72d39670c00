"""The one table of exit statuses: which error ends a process how, and that the document shows it."""

import errno
import inspect
import os
import re
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
