"""``fedapt-secure client ledger``: what was spent. Options only; the work is imported late."""

from pathlib import Path
from typing import Annotated

import typer

ledger_app = typer.Typer(help="What the institution's images have been used for.", no_args_is_help=True)

_Folder = Annotated[
    Path,
    typer.Option("--dir", help="The party's folder, or any folder with a ledger.sqlite (default: here)."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@ledger_app.command()
def show(folder: _Folder = Path(), as_json: _Json = False) -> None:
    """Per data set: what sessions were planned to cost, what the policy allows, and what is left."""
    from fedapt_secure.cli.work import ledger  # noqa: PLC0415

    ledger.show(folder, as_json=as_json)


@ledger_app.command()
def history(folder: _Folder = Path(), as_json: _Json = False) -> None:
    """List every event: plans, reserved rounds, released updates."""
    from fedapt_secure.cli.work import ledger  # noqa: PLC0415

    ledger.history(folder, as_json=as_json)


@ledger_app.command()
def export(
    folder: _Folder = Path(),
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of printing.")] = None,
) -> None:
    """Give everything on record as JSON, without anything that follows from images."""
    from fedapt_secure.cli.work import ledger  # noqa: PLC0415

    ledger.export(folder, out)
