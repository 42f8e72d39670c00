"""What holds for every command alike, also one that is added tomorrow: legible help, sane paths."""

import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fedapt_secure.process.paths import check_path
from fedapt_secure.process.streams import fitting

_BOXES_FIT: Final = 80


def layout() -> tuple[str, bool]:
    """Return what help is made for: the encoding of the output, and whether it is too narrow for boxes."""
    return sys.stdout.encoding, shutil.get_terminal_size().columns < _BOXES_FIT


def prepare_commands(root: Any, encoding: str, *, narrow: bool) -> None:
    """Make a tree of commands ready to run.

    Help is spelt out where the output's encoding lacks letters of it, before it is laid out in columns, and
    has no boxes where these would cut names of options. Paths that no system takes are refused before a
    command sees them.

    Args:
        root: The tree, as Typer makes it.
        encoding: Of the output.
        narrow: Whether boxes do not fit.
    """
    for command in every_command(root):
        if narrow:
            command.rich_markup_mode = None
        for holder in (command, *command.params):
            for name in ("help", "short_help", "epilog", "rich_help_panel"):
                text = getattr(holder, name, None)
                if isinstance(text, str):
                    setattr(holder, name, fitting(text, encoding))
        if command.callback is not None:
            names = {one.name: next(iter(one.opts), one.name) for one in command.params}
            command.callback = _checking_paths(command.callback, names)


def every_command(root: Any) -> Iterator[Any]:
    """Return a command and all below it."""
    yield root
    for command in getattr(root, "commands", {}).values():
        yield from every_command(command)


def _checking_paths(callback: Callable[..., Any], names: dict[str, str]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def checked(**values: Any) -> Any:
        for name, value in values.items():
            for one in value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, Path):
                    said = names.get(name, name)
                    check_path(one, said if said.startswith("-") else said.upper())
        return callback(**values)

    return checked
