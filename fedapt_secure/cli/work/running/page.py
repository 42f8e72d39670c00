"""The work of ``client page`` and ``server page``, and of ``client run`` where it serves the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.process.streams import say
from fedapt_secure.web.access import Role
from fedapt_secure.web.address import DEFAULT
from fedapt_secure.web.serving import Desk, PageServer, ask_for_link
from fedapt_secure.web.settings import PageSettings

_ADVICE: Final = (
    "The link works once, for a quarter of an hour; for another one, run the same command in another"
    " terminal. The page is there until this command ends: Ctrl-C."
)


def serve_until_stopped(
    package: str, desk: Callable[[], Desk], settings: PageSettings, folder: Path, *, read_only: bool
) -> None:
    """Print a link to the page that is served for a folder; where none is, serve it until Ctrl-C.

    Args:
        package: The party's package with the site.
        desk: Makes what the page shows and does, where it is served from here.
        settings: Where; without an address in them at the usual one.
        folder: The party's folder.
        read_only: Whether the link is for somebody who does not decide.

    Raises:
        InvalidInput: If it cannot be served so.
        Unavailable: If the port is taken.
    """
    role = Role.READS if read_only else Role.DECIDES
    link = ask_for_link(folder, role)
    if link is not None:
        say(link)
        return
    served = _serve(package, desk(), settings, folder)
    try:
        say(served.link(role))
        say(_ADVICE, err=True)
        served.wait()
    except KeyboardInterrupt:
        say("the page is not served any more", err=True)
    finally:
        served.stop()


def serve_page(folder: Path, settings: ClientSettings) -> PageServer:
    """Start serving an institution's page beside its process.

    Args:
        folder: The party's folder.
        settings: Its settings.

    Raises:
        InvalidInput: If it cannot be served so.
        Unavailable: If the port is taken.
    """
    check_page_libraries()
    from fedapt_client.page.desk import InstitutionDesk  # noqa: PLC0415

    return _serve("fedapt_client.page", InstitutionDesk(folder), settings, folder)


def check_page_libraries() -> None:
    """Raise `InvalidInput` where what serves pages is not installed."""
    try:
        import starlette  # noqa: F401, PLC0415
        import uvicorn  # noqa: F401, PLC0415
    except ImportError:
        raise InvalidInput(
            "pages need libraries that are not installed: pip install 'fedapt-secure[page]'"
        ) from None


def _serve(package: str, desk: Desk, settings: PageSettings, folder: Path) -> PageServer:
    address = settings.page_address(DEFAULT)
    if address is None:  # there is a default
        raise InvalidInput("the page has no address")
    return PageServer(package, desk, address, folder, confined=settings.page_confined)
