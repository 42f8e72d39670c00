"""``fedapt-secure client page``: the institution's page in a browser. The work is imported late."""

from pathlib import Path
from typing import Annotated, Final

import typer

from fedapt_secure.cli.commands.client_run import read_settings
from fedapt_secure.cli.options import Folder, open_folder
from fedapt_secure.process.streams import say

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
    from fedapt_secure.cli.work.page import check_page_libraries, serve_page  # noqa: PLC0415
    from fedapt_secure.web.access import Role  # noqa: PLC0415
    from fedapt_secure.web.serving import ask_for_link  # noqa: PLC0415

    check_page_libraries()
    role = Role.READS if read_only else Role.DECIDES
    link = ask_for_link(folder.path, role)
    if link is not None:
        say(link)
        return
    if address is not None:
        settings = settings.model_copy(update={"page": address})
    served = serve_page(folder.path, settings)
    try:
        say(served.link(role))
        say("works once, for a quarter of an hour; for another, run the command again elsewhere.", err=True)
        say("The page is there until this command ends: Ctrl-C.", err=True)
        served.wait()
    except KeyboardInterrupt:
        pass
    finally:
        served.stop()
