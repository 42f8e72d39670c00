"""Answers the process that faces browsers: what stands in the folder, and what people decide.

Whatever that process sends is taken as typed by a stranger who holds a link: a decision needs the digits of
the session that waits, and does no more than a record in the folder, which ``client run`` acts on as it acts
on ``--approve``.
"""

import hmac
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedapt_client.activity import ACTIVITY_FILE
from fedapt_client.books.approval import APPROVALS_FILE, Approvals
from fedapt_client.page.offer_file import OFFER_FILE, read_offer
from fedapt_client.page.rounds import FollowedLog, Verified, verified
from fedapt_client.page.site import AGREE, DECLINE
from fedapt_client.page.state import REASONS, TYPED_DIGITS, page_state
from fedapt_client.settings import SETTINGS_FILE, ClientSettings, read_settings
from fedapt_crypto.errors import FedaptError, InvalidInput
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.file import in_use
from fedapt_secure.process.shown import sentence_shown
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.web.serving import mark_of

VERIFY_EVERY_S: Final = 60.0
"""How often a log that grows is checked from its start, while somebody looks."""
Fields = dict[str, Any]


class InstitutionDesk:
    """The side of an institution's page that may read its folder; it loads no private key.

    Args:
        folder: The party's folder.
        clock: Seconds that only grow.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._log: FollowedLog | None = None
        self._verified: Verified | None = None
        self._verified_at = float("-inf")
        self._verified_size = -1
        self._settings: tuple[str, ClientSettings] | None = None
        self._ledger_as_read = ""

    def look(self, known: str | None) -> Mapping[str, Any]:
        """Return what the pages show, or that it is what is known already."""
        version = self._version()
        if known is not None and known == version:
            return {"same": True}
        try:
            return {**self._state(), "version": version}
        except FedaptError as error:
            return {"who": self._folder.name, "problem": sentence_shown(error), "version": version}

    def act(self, action: str, fields: Mapping[str, str]) -> str:
        """Put on record what people decide; returns what to say.

        Raises:
            InvalidInput: If it is not the session that waits, something is wrong, or it cannot be written.
        """
        offer = read_offer(self._folder)
        wanted = None if offer is None else offer["fields"]["hash"]
        if wanted is None or fields.get("hash") != wanted:
            raise InvalidInput("this is not the session that waits any more: look at the page again")
        approvals = Approvals(self._folder)
        if action == AGREE:
            typed = "".join(fields.get("typed", "").split()).lower()
            if not hmac.compare_digest(typed.encode(), wanted[:TYPED_DIGITS].encode()):
                raise InvalidInput(
                    "what was typed is not the session's fingerprint: compare it, and type its"
                    f" {TYPED_DIGITS} digits"
                )
            approvals.approve(wanted)
            return "Agreed. This institution takes part as soon as its process sees it."
        if action == DECLINE:
            reason = fields.get("reason")
            if reason not in {one.value for one in REASONS}:
                raise InvalidInput("choose a reason from the list")
            approvals.decline(wanted, Reason(reason))
            return f"Declined. The coordinator is told {reason}, and nothing else."
        raise InvalidInput("there is no such action")

    def _state(self) -> Fields:
        settings = self._read_settings()
        path = self._folder / settings.log
        if self._log is None:
            self._log = FollowedLog(path)
        state = page_state(PartyFolder(self._folder), settings, self._log)
        # Opening a ledger touches its file: that alone is nothing new.
        self._ledger_as_read = mark_of(self._folder / settings.ledger)
        return {**state, "verified": self._checked(path)}

    def _checked(self, path: Path) -> Fields | None:
        """Return what a pass over the whole log found; not made again while nothing was written, or soon."""
        size = path.stat().st_size if path.exists() else 0
        due = self._clock() - self._verified_at >= VERIFY_EVERY_S
        if size and size != self._verified_size and due:
            roster = PartyFolder(self._folder)
            identity = None
            if roster.roster_file.exists():
                name = self._read_settings().name
                members = {one.name: one for one in roster.roster().members}
                identity = members[name].identity_key if name in members else None
            self._verified = verified(path, identity, datetime.now(UTC))
            self._verified_at, self._verified_size = self._clock(), size
        found = self._verified
        return None if found is None else {"lines": found.lines, "at": found.at, "problems": found.problems}

    def _read_settings(self) -> ClientSettings:
        """Return the settings; read again when their file is another one."""
        mark = mark_of(self._folder / SETTINGS_FILE)
        if self._settings is None or self._settings[0] != mark:
            self._settings = (mark, read_settings(self._folder))
        return self._settings[1]

    def _version(self) -> str:
        """Return what changes whenever a file does from which the pages are made."""
        names = (SETTINGS_FILE, ACTIVITY_FILE, OFFER_FILE, APPROVALS_FILE, "roster.json", "evaluation.json")
        paths = [self._folder / name for name in names]
        log = self._folder / "log.jsonl"
        try:
            settings = self._read_settings()
            log = self._folder / settings.log
            ledger = self._folder / settings.ledger
            paths += [log, self._folder / settings.policy]
            if mark_of(ledger) != self._ledger_as_read:
                paths.append(ledger)
        except FedaptError:
            pass
        running = log.exists() and in_use(log)
        late = self._verified_size >= 0 and self._clock() - self._verified_at >= VERIFY_EVERY_S
        return " ".join([*map(mark_of, paths), str(running), str(late)])
