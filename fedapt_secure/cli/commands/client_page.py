"""``fedapt-secure client page``: the institution's page in a browser. The work is imported late."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fedapt_secure.cli.commands.client_run import read_settings
from fedapt_secure.cli.options import Folder, open_folder

if TYPE_CHECKING:
    from fedapt_secure.web.serving import Desk

HERE: Final = Path()


def page(
    directory: Folder = HERE,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="A link for somebody who reads and does not decide.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option("--address", help="ADDRESS:PORT (default: that of client.yaml, else 127.0.0.1:8460)."),
    ] = None,
) -> None:
    """Serve the institution's page on this machine and print a link; where it is served already, the link."""
    folder = open_folder(directory, None)
    settings = read_settings(folder)
    from fedapt_secure.cli.work.running.page import check_page_libraries, serve_until_stopped  # noqa: PLC0415

    check_page_libraries()
    if address is not None:
        settings = settings.model_copy(update={"page": address})

    def desk() -> "Desk":
        from fedapt_client.page.desk import InstitutionDesk  # noqa: PLC0415

        return InstitutionDesk(folder.path)

    serve_until_stopped("fedapt_client.page", desk, settings, folder.path, read_only=read_only)
