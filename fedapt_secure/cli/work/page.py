"""The work of ``client page``, and of ``client run`` where it serves the page."""

from pathlib import Path

from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.web.address import DEFAULT
from fedapt_secure.web.serving import PageServer


def serve_page(folder: Path, settings: ClientSettings) -> PageServer:
    """Start serving an institution's page.

    Args:
        folder: The party's folder.
        settings: Its settings; without an address in them the page is at the usual one.

    Raises:
        InvalidInput: If it cannot be served so.
        Unavailable: If the port is taken.
    """
    check_page_libraries()
    from fedapt_client.page.desk import InstitutionDesk  # noqa: PLC0415

    address = settings.page_address(DEFAULT)
    assert address is not None
    return PageServer(
        "fedapt_client.page", InstitutionDesk(folder), address, folder, confined=settings.page_confined
    )


def check_page_libraries() -> None:
    """Raise `InvalidInput` where what serves pages is not installed."""
    try:
        import starlette  # noqa: F401, PLC0415
        import uvicorn  # noqa: F401, PLC0415
    except ImportError:
        raise InvalidInput(
            "pages need libraries that are not installed: pip install 'fedapt-secure[page]'"
        ) from None
