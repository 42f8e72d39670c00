"""Where a page is served: on this machine alone, unless a certificate and allowed networks say otherwise."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput

DEFAULT: Final = "127.0.0.1:8460"
_ADDRESS: Final = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)|(localhost)):(\d{1,5})")


@dataclass(frozen=True)
class PageAddress:
    """Where a page listens, and who may come.

    Attributes:
        host: An IP address. port: A TCP port; 0 for a free one.
        certificate, key: PEM files, for TLS; both or neither.
        allowed: Networks besides this machine whose browsers may connect.
        names: Names besides the address under which browsers may ask for it.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    allowed: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("a page's certificate and its key go together: name both, or neither")
        for network in self.allowed:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise InvalidInput(f"{network!r} is no network: write it as 10.1.0.0/16") from None
        if self.loopback:
            return
        if self.certificate is None or not self.allowed:
            raise InvalidInput(
                f"a page at {self.host} can be reached from other machines: that needs a TLS certificate with"
                " its key, and the networks that may connect (page_certificate, page_key, page_allow)"
            )

    @classmethod
    def parse(cls, text: str, **others: object) -> "PageAddress":
        """Return what ``ADDRESS:PORT`` says.

        Args:
            text: As ``127.0.0.1:8460`` or ``[::1]:8460``.
            others: The other attributes.

        Raises:
            InvalidInput: If it says something else, or may not be served so.
        """
        found = _ADDRESS.fullmatch(text)
        host = next((part for part in found.groups()[:3] if part), "") if found else ""
        host = "127.0.0.1" if host == "localhost" else host
        try:
            ipaddress.ip_address(host)
            port = int(found[4]) if found else -1
        except ValueError:
            port = -1
        if not 0 <= port <= 65_535:
            raise InvalidInput(f"{text!r} is no address of a page: write it as {DEFAULT}, or [::1]:8460")
        return cls(host, port, **others)  # type: ignore[arg-type]

    @property
    def loopback(self) -> bool:
        """Whether no other machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self.certificate is None else "https"

    def hosts(self, port: int) -> tuple[str, ...]:
        """Return what browsers may name as the host.

        Args:
            port: The port that it has.
        """
        local = ("127.0.0.1", "localhost", "[::1]") if self.loopback else (self._bracketed,)
        names = (*local, *self.names)
        usual = {"http": 80, "https": 443}[self.scheme]
        return tuple(f"{name}:{port}" for name in names) + (names if port == usual else ())

    def link(self, port: int, secret: str) -> str:
        """Return the link that lets somebody in.

        Args:
            port: The port that it has.
            secret: What works once.
        """
        name = self.names[0] if self.names else self._bracketed
        return f"{self.scheme}://{name}:{port}/enter/{secret}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host
