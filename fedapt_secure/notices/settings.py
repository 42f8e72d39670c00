"""Who is told, and of what: the part ``notify`` of a party's settings."""

from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from fedapt_secure.config.settings import Settings


class Event(StrEnum):
    """What people may want to be told of."""

    OFFER = "offer"
    """A session waits for people here; at the coordinator: one has begun."""
    REFUSAL = "refusal"
    """This institution refused something; at the coordinator: an institution does not take part."""
    END = "end"
    """A session has ended."""
    FAILURE = "failure"
    """The process has ended with an error, or the session cannot go on."""
    CERTIFICATE = "certificate"
    """A certificate expires soon and was not renewed."""


class NotifySettings(Settings):
    """What is run or posted.

    Attributes:
        command: A program and its arguments, run without a shell. It finds the event as ``FEDAPT_EVENT``,
            ``FEDAPT_PARTY``, ``FEDAPT_SESSION`` and ``FEDAPT_CODE`` in its environment, and all of it as JSON
            on its standard input.
        webhook: Where the same JSON is posted. Its path may hold a secret: it is in no log.
        on: Which events; by default all.
    """

    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    webhook: Annotated[str, Field(max_length=2000)] | None = Field(default=None, repr=False)
    on: tuple[Event, ...] = tuple(Event)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("say what is done: command, webhook, or both")
        if self.webhook is not None:
            parts = urlsplit(self.webhook)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("webhook: write it as https://HOST/PATH")
        return self
