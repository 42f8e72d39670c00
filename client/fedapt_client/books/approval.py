"""Whether the people of an institution have agreed to a session, and the record of it in their folder.

What is approved is the hash of a session's whole configuration, so nothing of it can change afterwards. An
approval is on disk before anything is sent: a restart does not ask again.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import read_private, write_atomically
from fedapt_secure.config.locking import locked
from fedapt_secure.protocol.reasons import Reason, ReasonCode
from fedapt_secure.protocol.session import SessionConfiguration

APPROVALS_FILE: Final = "approvals.json"
LOCK_FILE: Final = "approvals.lock"
APPROVED: Final = "approved"
Ask = Callable[[SessionConfiguration], bool]
"""Shows a session to somebody, and returns whether they agree."""
Show = Callable[[SessionConfiguration], None]


class NotApproved(InvalidInput):
    """Nobody has agreed to the session yet; coming back later works."""

    code = Reason.NOT_APPROVED.value


class Declined(InvalidInput):
    """Somebody was asked and said no; coming back later works, too."""

    code: str = Reason.NOT_APPROVED.value


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    configuration: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    approved_at: str


class _Declined(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    configuration: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    declined_at: str
    reason: ReasonCode


class _Content(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    approved: list[_Entry] = []
    declined: list[_Declined] = []


def _declined(wanted: str, reason: str) -> Declined:
    refused = Declined(f"the people of this institution do not take part in the session {wanted[:16]}")
    refused.code = reason
    return refused


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Approvals:
    """The approvals of one institution.

    Args:
        folder: The party's folder.
        given: The hash that was approved on the command line, 64 hexadecimal digits.
        ask: Asks somebody; ``None`` where nobody is there.
        show: Shows a session that nobody can be asked about.
        elsewhere: Whether people decide elsewhere, on a page: then a session waits for what they put on
            record, and one that was declined is no reason to end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        given: str | None = None,
        ask: Ask | None = None,
        show: Show | None = None,
        elsewhere: bool = False,
    ) -> None:
        self._folder = folder
        self._path = folder / APPROVALS_FILE
        self.elsewhere = elsewhere
        self._shown: str | None = None
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
        content = self._content()
        if wanted in {entry.configuration for entry in content.approved}:
            return
        if self._given is None and unattended:
            return
        if self._given != wanted:
            said_no = {entry.configuration: entry.reason for entry in content.declined}.get(wanted)
            if said_no is not None and self.elsewhere:
                raise _declined(wanted, said_no)
            self._ask_somebody(configuration, wanted)
        self.approve(wanted)

    def decision(self, wanted: str) -> str | None:
        """Return what is on record of a session: `APPROVED`, the code of its refusal, or ``None``.

        Args:
            wanted: Its configuration's hash, 64 hexadecimal digits.

        Raises:
            InvalidInput: If the record cannot be read.
        """
        content = self._content()
        if wanted in {entry.configuration for entry in content.approved}:
            return APPROVED
        return {entry.configuration: entry.reason for entry in content.declined}.get(wanted)

    def approve(self, wanted: str) -> None:
        """Put on record that people agree to a session; also where they have declined it before.

        Args:
            wanted: Its configuration's hash.

        Raises:
            InvalidInput: If the record cannot be read or written.
        """
        with locked(self._folder / LOCK_FILE):
            content = self._content()
            if wanted in {entry.configuration for entry in content.approved}:
                return
            declined = [entry for entry in content.declined if entry.configuration != wanted]
            approved = [*content.approved, _Entry(configuration=wanted, approved_at=_now())]
            self._write(_Content(approved=approved, declined=declined))

    def decline(self, wanted: str, reason: Reason) -> None:
        """Put on record that people do not agree to a session.

        Args:
            wanted: Its configuration's hash.
            reason: The code that the coordinator is told.

        Raises:
            InvalidInput: If they have agreed before, or the record cannot be read or written.
        """
        with locked(self._folder / LOCK_FILE):
            content = self._content()
            if wanted in {entry.configuration for entry in content.approved}:
                raise InvalidInput(
                    "this session has been agreed to: stop 'fedapt-secure client run' to leave it"
                )
            declined = [entry for entry in content.declined if entry.configuration != wanted]
            declined.append(_Declined(configuration=wanted, declined_at=_now(), reason=reason.value))
            self._write(_Content(approved=content.approved, declined=declined))

    def _ask_somebody(self, configuration: SessionConfiguration, wanted: str) -> None:
        if self._ask is None:
            # Asked again and again while people decide elsewhere: shown once.
            if self._show is not None and self._shown != wanted:
                self._show(configuration)
            self._shown = wanted
            other = (
                "" if self._given is None else f", which is not the one given with --approve ({self._given})"
            )
            raise NotApproved(
                f"not approved yet: the session with the hash {wanted}{other}; to take part, run"
                f" 'fedapt-secure client run --approve {wanted}'"
            )
        if not self._ask(configuration):
            raise _declined(wanted, Reason.NOT_APPROVED.value)

    def _content(self) -> _Content:
        if not self._path.exists():
            return _Content()
        try:
            return _Content.model_validate_json(read_private(self._path))
        except ValidationError:
            raise InvalidInput(
                f"{self._path} cannot be read: delete it, and approve the session again"
            ) from None

    def _write(self, content: _Content) -> None:
        try:
            write_atomically(self._path, content.model_dump_json(indent=1, exclude_defaults=True).encode())
        except OSError as error:
            raise system_error(f"{self._path} cannot be written", error) from None
