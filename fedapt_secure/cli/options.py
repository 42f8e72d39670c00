"""What several commands take: a party's folder, its passphrase, a duration; questions, and the screen."""

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.ranges import Range
from fedapt_secure.process.screen import Screen
from fedapt_secure.process.streams import asks_in_lines, fitting

if TYPE_CHECKING:  # cryptography and pydantic take longer to load than --help may take
    from fedapt_crypto.protected_keys import Passphrase
    from fedapt_secure.config.party_folder import PartyFolder

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

    folder = PartyFolder(path, _given(passphrase_file))
    if folder.passphrase is None and folder.protected and sys.stdin.isatty():
        return PartyFolder(path, Passphrase(ask_secret("passphrase")))
    return folder


def new_folder(path: Path, passphrase_file: Path | None) -> "PartyFolder":
    """Return a folder whose keys are still to be made, with what is to protect them, if anything."""
    from fedapt_secure.config.party_folder import PartyFolder  # noqa: PLC0415

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
