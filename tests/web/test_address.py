"""Where a page may be served, and what its links and hosts are."""

from pathlib import Path

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.web.address import PageAddress

TLS = {"certificate": Path("page.crt"), "key": Path("page.key")}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8460", "127.0.0.1", 8460),
        ("localhost:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65_535),
        ("127.9.9.9:0", "127.9.9.9", 0),
    ],
)
def test_this_machine_needs_nothing_more(text: str, host: str, port: int) -> None:
    found = PageAddress.parse(text)
    assert (found.host, found.port, found.scheme, found.loopback) == (host, port, "http", True)


@pytest.mark.parametrize(
    "text",
    ["", "8460", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:8460", "example.org:80", "1.2.3:8",
             "127.0.0.1:84 60", "http://127.0.0.1:8460", "999.0.0.1:80", "[gg]:80"]
)  # fmt: skip
def test_what_is_no_address_is_said_so(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"is no address of a page: write it as 127\.0\.0\.1:8460"):
        PageAddress.parse(text)


@pytest.mark.parametrize("text", ["0.0.0.0:8460", "10.1.2.3:8460", "[::]:8460", "[2001:db8::1]:8460"])
def test_other_machines_need_a_certificate_and_a_list(text: str) -> None:
    for others in ({}, TLS, {"allowed": ("10.0.0.0/8",)}):
        with pytest.raises(InvalidInput, match="TLS certificate with its key, and the networks"):
            PageAddress.parse(text, **others)
    found = PageAddress.parse(text, **TLS, allowed=("10.0.0.0/8",))
    assert found.scheme == "https"
    assert not found.loopback


def test_halves_and_nonsense_are_refused() -> None:
    with pytest.raises(InvalidInput, match="go together"):
        PageAddress.parse("127.0.0.1:1", certificate=Path("page.crt"))
    with pytest.raises(InvalidInput, match=r"'10\.1\.2\.3/8' is no network"):
        PageAddress.parse("127.0.0.1:1", allowed=("10.1.2.3/8",))


def test_hosts_and_links() -> None:
    local = PageAddress.parse("127.0.0.1:8460")
    assert local.hosts(8460) == ("127.0.0.1:8460", "localhost:8460", "[::1]:8460")
    assert local.link(8460, "s") == "http://127.0.0.1:8460/enter/s"
    named = PageAddress.parse("10.0.0.7:443", **TLS, allowed=("10.0.0.0/8",), names=("page.example.org",))
    assert named.hosts(443) == (
        "10.0.0.7:443", "page.example.org:443", "10.0.0.7", "page.example.org"
    )  # fmt: skip
    assert named.link(443, "s") == "https://page.example.org:443/enter/s"
    assert PageAddress.parse("[::1]:80").link(80, "s") == "http://[::1]:80/enter/s"
