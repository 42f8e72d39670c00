"""``fedapt-secure docs``: the documents, units and examples that come with the package."""

from typing import Annotated

import typer

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.options import AsJson
from fedapt_secure.process.streams import say, say_json, say_lines


def docs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Which to print: client/RUNBOOK.md, deploy, fedapt-client.service; default: list all."
        ),
    ] = None,
    path: Annotated[
        bool, typer.Option("--path", help="Print where it lies; without a name, where all of them lie.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the documents, systemd units and examples that came with this program, or print one."""
    from fedapt_secure.cli.work.documents import documents, find, folder  # noqa: PLC0415

    if name is None:
        found = documents()
        if as_json:
            say_json({"folder": str(folder()), "documents": [one.name for one in found]})
            return
        say(str(folder()))
        if not path:
            longest = max(len(one.name) for one in found)
            for one in found:
                say(f"  {one.name:<{longest}}  {one.title}".rstrip())
        return
    document = find(name)
    if as_json:
        say_json({"name": document.name, "path": str(document.path)})
    elif path:
        say(str(document.path))
    else:
        try:
            say_lines(document.path.read_text(encoding="utf-8").rstrip("\n"))
        except UnicodeDecodeError:
            raise InvalidInput(f"{document.name} is no text: it lies in {document.path}") from None
