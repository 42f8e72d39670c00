"""Whether the people of an institution have agreed to a session, and the record of it in their folder.

What is approved is the hash of a session's whole configuration, so nothing of it can change afterwards. An
approval is on disk before anything is sent: a restart does not ask again.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import read_private, write_atomically
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration

APPROVALS_FILE: Final = "approvals.json"
Ask = Callable[[SessionConfiguration], bool]
"""Shows a session to somebody, and returns whether they agree."""
Show = Callable[[SessionConfiguration], None]


class NotApproved(InvalidInput):
    """Nobody has agreed to the session yet; coming back later works."""

    code = Reason.NOT_APPROVED.value


class Declined(InvalidInput):
    """Somebody was asked and said no; coming back later works, too."""

    code = Reason.NOT_APPROVED.value


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    configuration: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    approved_at: str


class _Content(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    approved: list[_Entry]


class Approvals:
    """The approvals of one institution.

    Args:
        folder: The party's folder.
        given: The hash that was approved on the command line, 64 hexadecimal digits.
        ask: Asks somebody; ``None`` where nobody is there.
        show: Shows a session that nobody can be asked about.
    """

    def __init__(
        self, folder: Path, *, given: str | None = None, ask: Ask | None = None, show: Show | None = None
    ) -> None:
        self._path = folder / APPROVALS_FILE
        self._given = given
        self._ask = ask
        self._show = show

    def check(self, configuration: SessionConfiguration, *, unattended: bool) -> None:
        """Go on only with an approval: of the policy, on record, from the command line, or by being asked.

        Raises:
            NotApproved: If nobody has agreed, and nobody can be asked.
            Declined: If somebody said no.
            InvalidInput: If the record cannot be read or written.
        """
        wanted = configuration.hash.hex()
        if wanted in {entry.configuration for entry in self._entries()}:
            return
        if self._given is None and unattended:
            return
        if self._given != wanted:
            self._ask_somebody(configuration, wanted)
        self._record(wanted)

    def _ask_somebody(self, configuration: SessionConfiguration, wanted: str) -> None:
        if self._ask is None:
            if self._show is not None:
                self._show(configuration)
            other = (
                "" if self._given is None else f", which is not the one given with --approve ({self._given})"
            )
            raise NotApproved(
                f"not approved yet: the session with the hash {wanted}{other}; to take part, run"
                f" 'fedapt-secure client run --approve {wanted}'"
            )
        if not self._ask(configuration):
            raise Declined(f"the people of this institution do not take part in the session {wanted[:16]}")

    def _entries(self) -> list[_Entry]:
        if not self._path.exists():
            return []
        try:
            return _Content.model_validate_json(read_private(self._path)).approved
        except ValidationError:
            raise InvalidInput(
                f"{self._path} cannot be read: delete it, and approve the session again"
            ) from None

    def _record(self, wanted: str) -> None:
        entries = [entry.model_dump() for entry in self._entries()]
        approved_at = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"approved": [*entries, {"configuration": wanted, "approved_at": approved_at}]}
        try:
            write_atomically(self._path, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise system_error(f"{self._path} cannot be written", error) from None
