"""``fedapt-secure server page``: the coordinator's page in a browser. The work is imported late."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fedapt_secure.cli.options import Folder, PassphraseFile
from fedapt_secure.cli.work.coordinator_folder import open_registrar, read_server_settings

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
        typer.Option("--address", help="ADDRESS:PORT (default: that of server.yaml, else 127.0.0.1:8460)."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Serve the coordinator's page on this machine and print a link; where it is served already, the link."""
    from fedapt_secure.cli.work.running.page import check_page_libraries, serve_until_stopped  # noqa: PLC0415

    check_page_libraries()
    settings = read_server_settings(directory, None)
    if address is not None:
        settings = settings.model_copy(update={"page": address})

    def desk() -> "Desk":
        from fedapt_server.page.desk import CoordinatorDesk  # noqa: PLC0415

        return CoordinatorDesk(open_registrar(directory, passphrase_file))

    serve_until_stopped("fedapt_server.page", desk, settings, directory, read_only=read_only)
