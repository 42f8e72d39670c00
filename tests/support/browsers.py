"""A real browser, where there is one: Chromium without a window, driven by Selenium."""

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fedapt_crypto.certificates import facts

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no browser: install chromium and chromium-driver"
)


@contextmanager
def browser(
    *, width: int = 1280, scripts: bool = True, dark: bool = False, trusts: Path | None = None
) -> Iterator["Chrome"]:
    """Yield a browser that knows nobody.

    Args:
        width: Of its window, in pixels.
        scripts: Whether it runs scripts.
        dark: Whether its user prefers dark pages.
        trusts: A certificate that it takes for whose it says; its names are found on this machine.
    """
    from selenium.webdriver import Chrome, ChromeOptions  # noqa: PLC0415 - a second
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests often run as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--hide-scrollbars",
        f"--window-size={width},1400",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *(() if trusts is None else _trusting(trusts)),
        *([] if scripts else ["--blink-settings=scriptEnabled=false"]),
    ):
        options.add_argument(argument)
    found = Chrome(options=options, service=Service(DRIVER))
    try:
        found.set_page_load_timeout(60)
        yield found
    finally:
        found.quit()


def _trusting(certificate: Path) -> tuple[str, str]:
    public = hashlib.sha256(facts(certificate.read_bytes()).public_key).digest()
    return (
        f"--ignore-certificate-errors-spki-list={base64.b64encode(public).decode()}",
        "--host-resolver-rules=MAP *.example.org 127.0.0.1",
    )
