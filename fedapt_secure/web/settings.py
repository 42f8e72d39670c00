"""What a party's settings say of its page."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import Settings
from fedapt_secure.web.address import PageAddress

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")]


class PageSettings(Settings):
    """Part of ``client.yaml`` and of ``server.yaml``.

    Attributes:
        page: ``ADDRESS:PORT`` of the party's page; ``None`` for none, or where a command asks for one for the
            usual address.
        page_certificate, page_key: PEM files for TLS; only with them can other machines reach the page.
        page_allow: Networks besides this machine whose browsers may connect, as ``10.1.0.0/16``.
        page_names: Host names besides its address by which browsers may ask for the page.
        page_confined: Refuse to serve it where the kernel cannot keep its process from opening files.
    """

    page: str | None = None
    page_certificate: Path | None = None
    page_key: Path | None = None
    page_allow: tuple[str, ...] = ()
    page_names: tuple[HostName, ...] = ()
    page_confined: bool = True

    @model_validator(mode="after")
    def _served(self) -> Self:
        try:
            self.page_address()
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        return self

    def page_address(self, otherwise: str | None = None) -> PageAddress | None:
        """Return where the page is served; ``None`` for nowhere.

        Args:
            otherwise: Where, if the settings name no address.

        Raises:
            InvalidInput: If it cannot be served so.
        """
        text = self.page or otherwise
        if text is None:
            return None
        return PageAddress.parse(
            text,
            certificate=self.page_certificate,
            key=self.page_key,
            allowed=self.page_allow,
            names=self.page_names,
        )
