"""What several commands take: a party's folder, passphrase, durations, files; questions, and the screen."""

import os
import pwd
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.config.ranges import Range
from fedapt_secure.process.screen import Screen
from fedapt_secure.process.streams import asks_in_lines, fitting

if TYPE_CHECKING:  # cryptography and pydantic take longer to load than --help may take
    from fedapt_crypto.protected_keys import Passphrase
    from fedapt_secure.config.party_folder import PartyFolder

STREAM: Final = Path("-")
"""Stands for standard input or output: what a service's user may not open, the shell opens for it."""
MAX_INPUT_BYTES: Final = 48 << 20
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Folder = Annotated[Path, typer.Option("--dir", help="The party's folder (default: the current one).")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase of the key files; or set FEDAPT_PASSPHRASE."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def within(allowed: Range) -> Callable[[typer.CallbackParam, float | None], float | None]:
    """Return what checks a number of the command line, as ``callback`` of its option."""

    def check(option: typer.CallbackParam, value: float | None) -> float | None:
        try:
            if value is not None:
                allowed.check(value)
        except ValueError as error:
            raise InvalidInput(f"{option.opts[0]}: {error}") from None
        return value

    return check


def duration(text: str) -> timedelta:
    """Read ``30s``, ``30m``, ``12h``, ``7d`` or ``2w``; raises `InvalidInput` for anything else."""
    found = re.fullmatch(r"(\d{1,4})([smhdw])", text)
    if found is None or int(found[1]) == 0:
        raise InvalidInput(f"{text!r} is not a duration: 30s, 30m, 12h, 7d or 2w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def open_folder(path: Path, passphrase_file: Path | None) -> "PartyFolder":
    """Return an existing folder with what opens its keys, asked for where somebody can answer."""
    from fedapt_crypto.protected_keys import Passphrase  # noqa: PLC0415
    from fedapt_secure.config.party_folder import PartyFolder  # noqa: PLC0415

    _check_user(path)
    folder = PartyFolder(path, _given(passphrase_file))
    if folder.passphrase is None and folder.protected and sys.stdin.isatty():
        return PartyFolder(path, Passphrase(ask_secret("passphrase")))
    return folder


def new_folder(path: Path, passphrase_file: Path | None) -> "PartyFolder":
    """Return a folder whose keys are still to be made, with what is to protect them, if anything."""
    from fedapt_secure.config.party_folder import PartyFolder  # noqa: PLC0415

    _check_user(path)
    given = _given(passphrase_file)
    return PartyFolder(path, None if given is None else given.require_strength())


def change_passphrase(folder: "PartyFolder", new_file: Path | None, remove: bool) -> tuple[Path, ...]:
    """Set, change or remove the passphrase of a folder's keys; return the files that were written.

    Raises:
        InvalidInput: If there are no keys, the old passphrase is wrong, or no new one can be asked for.
    """
    if not folder.identity_file.exists():
        raise InvalidInput(f"{folder.path} holds no keys: name a party's folder with --dir")
    if remove and new_file is not None:
        raise InvalidInput("--remove and --new-passphrase-file exclude each other: give one")
    from fedapt_crypto.protected_keys import Passphrase  # noqa: PLC0415
    from fedapt_secure.config import passphrase as sources  # noqa: PLC0415

    new: Passphrase | None = None
    if new_file is not None:
        new = sources.from_file(new_file)
    elif not remove:
        if not sys.stdin.isatty():
            raise InvalidInput(
                "nobody can be asked for the new passphrase: give --new-passphrase-file, or --remove"
            )
        new = Passphrase(ask_secret("new passphrase", twice=True))
    return folder.change_passphrase(None if new is None else new.require_strength())


def read_input(path: Path) -> bytes:
    """Return what is in a file that somebody sent, or on standard input where ``path`` is `STREAM`.

    Raises:
        InvalidInput: If it cannot be read, or is too large to be what is expected here.
        Unavailable: If the machine lacks something for it now.
    """
    try:
        if path == STREAM:
            data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        else:
            with path.open("rb") as stream:
                data = stream.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise system_error(f"{path}", error, _elsewhere(error, "<", "in its place")) from None
    if len(data) > MAX_INPUT_BYTES:
        raise InvalidInput(f"{path} is too large to be what is expected here")
    return data


def write_output(path: Path, data: bytes, option: str) -> None:
    """Write a file in which there is no secret, or to standard output where ``path`` is `STREAM`.

    Args:
        path: Where to.
        data: The whole content.
        option: The option by which it was named.

    Raises:
        InvalidInput: If it cannot be written.
        Unavailable: If there is no room for it now.
    """
    try:
        if path == STREAM:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        else:
            path.write_bytes(data)
    except OSError as error:
        raise system_error(f"cannot write {path}", error, _elsewhere(error, ">", option)) from None


def _elsewhere(error: OSError, sign: str, option: str) -> str | None:
    """Say how a user who may not open a file can leave that to the shell."""
    if not isinstance(error, PermissionError):
        return None
    return f"for the user {_user(os.geteuid())!r} give - {option}, and let the shell open it ({sign} FILE)"


def _check_user(path: Path) -> None:
    """Refuse to work as root on the folder of a service's user, who could not read what that leaves behind.

    Raises:
        InvalidInput: With the command to use.
    """
    try:
        owner = path.stat().st_uid
    except OSError:
        return  # not there yet, or not to be entered: whoever opens it says so
    if os.geteuid() == 0 and owner != 0:
        raise InvalidInput(
            f"{path} belongs to the user {_user(owner)!r}, and root would leave files in it that this user"
            f" cannot read: run the command as that user ('sudo -u {_user(owner)} fedapt-secure ...')"
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


def console() -> Screen:
    """Return what prints tables and sentences."""
    return Screen(soft_wrap=True)


def ask(question: str, *, abort: bool = False, err: bool = False) -> bool:
    """Ask yes or no; with ``abort``, no ends the command. On standard output where errors are a JSON log."""
    err = err and not asks_in_lines()
    encoding = (sys.stderr if err else sys.stdout).encoding
    return typer.confirm(fitting(question, encoding), abort=abort, err=err)


def ask_secret(prompt: str, *, twice: bool = False) -> str:
    """Ask for what is not shown while it is typed."""
    said: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=not asks_in_lines())
    return said


def _given(passphrase_file: Path | None) -> "Passphrase | None":
    from fedapt_secure.config import passphrase as sources  # noqa: PLC0415

    return sources.from_environment() if passphrase_file is None else sources.from_file(passphrase_file)
