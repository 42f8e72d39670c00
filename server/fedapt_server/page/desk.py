"""Answers the process that faces browsers: where the service stands, and what its operator changes.

What that process sends is taken as typed by a stranger who holds a link. Inviting and revoking do what
``server invite`` and ``server revoke`` do, with a confirmation in the form.
"""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from fedapt_crypto.certificates import expires_soon
from fedapt_crypto.encoding import PartyName
from fedapt_crypto.errors import FedaptError, InvalidInput
from fedapt_secure.process.shown import sentence_shown
from fedapt_secure.protocol.reasons import meaning_of
from fedapt_secure.web.serving import mark_of
from fedapt_server.archive.store import STORE_FILE
from fedapt_server.membership.facts import membership_fields
from fedapt_server.membership.registrar import MEMBERSHIP_FILE, Registrar
from fedapt_server.page.rounds import Attempt, FollowedCoordinator
from fedapt_server.page.site import INVITE, REVOKE
from fedapt_server.standing import STATES, doing_words, status_fields

EVERY_S: Final = 2.0
"""What the running service says of itself is asked for no more often than this."""
MAX_DAYS: Final = 60
_DAYS: Final = re.compile(r"[0-9]{1,3}")
Fields = dict[str, Any]


class CoordinatorDesk:
    """The side of a coordinator's page that may read its folder.

    Args:
        registrar: Keeps its records; it holds the keys that sign rosters and certificates.
        clock: Seconds that only grow.
        now: What time it is.
    """

    def __init__(
        self,
        registrar: Registrar,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._registrar = registrar
        self._folder = registrar.folder.path
        self._clock = clock
        self._now = now
        self._log = FollowedCoordinator(self._folder / registrar.settings.log)
        self._standing: Fields | None = None
        self._standing_at = float("-inf")

    def look(self, known: str | None) -> Mapping[str, Any]:
        """Return what the pages show, or that it is what is known already."""
        try:
            version = self._version()
            if known is not None and known == version:
                return {"same": True}
            return {**self._state(), "version": version}
        except FedaptError as error:
            return {"who": self._folder.name, "problem": sentence_shown(error), "version": None}

    def act(self, action: str, fields: Mapping[str, str]) -> str:
        """Invite or revoke; returns what to say.

        Raises:
            InvalidInput: If a field cannot be used, or the confirmation is missing.
        """
        name = fields.get("name", "").strip()
        if action == INVITE:
            return self._invite(name, fields)
        if action == REVOKE:
            _confirmed(name, fields)
            if self._registrar.revoke(name, fields.get("reason", "")[:200]):
                return (
                    f"{name} is off the roster, its certificates are refused. The others approve the new one."
                )
            return f"The invitation of {name} is withdrawn."
        raise InvalidInput("there is no such action")

    def _invite(self, name: str, fields: Mapping[str, str]) -> str:
        domain, days = fields.get("domain", "").strip(), fields.get("days", "")
        try:
            TypeAdapter(PartyName).validate_python(name)
        except ValidationError:
            raise InvalidInput(f"{name!r} is no name: up to 64 letters, digits, '.', '_' and '-'") from None
        if not 1 <= len(domain) <= 256 or not domain.isprintable():
            raise InvalidInput("a domain has 1 to 256 printable characters")
        if not _DAYS.fullmatch(days) or not 1 <= int(days) <= MAX_DAYS:
            raise InvalidInput(f"an invitation is valid for 1 to {MAX_DAYS} days")
        _confirmed(name, fields)
        join, withdrawn = self._registrar.invite(name, domain, timedelta(days=int(days)))
        note = " Its earlier invitation is void." if withdrawn else ""
        return (
            f"Invited {name}, once, until {join.expires_at:%Y-%m-%d %H:%M} UTC.{note} Hand this over on a"
            f" trusted way; it is not shown again: {join.to_text()}"
        )

    def _state(self) -> Fields:
        self._log.read_on()
        standing, members = self._stands(), membership_fields(self._registrar)
        names = self._log.institutions or tuple(standing["institutions"])
        return {
            "problem": None,
            "who": f"{members['federation']}, coordinator",
            "running": standing["running"],
            "ok": standing["ok"],
            "state": STATES[standing["state"]],
            "reason": standing["reason"],
            "session": standing["session"],
            "rounds": standing["rounds"],
            "round": standing["round"],
            "attempt": standing["attempt"],
            "phase": standing["phase"],
            "completed": standing["completed"],
            "aborted": standing["aborted"],
            "said_of_sums": standing["said_of_sums"],
            "ends": None if standing["ends"] is None else _minute(standing["ends"]),
            "institutions": [_institution(name, standing) for name in standing["institutions"]],
            "grid": {"names": list(names), "columns": [_column(one) for one in self._log.attempts]},
            "without_sum": self._log.without_sum[::-1][:10],
            "refusals": list(self._log.refusals)[::-1],
            "mib_up": self._log.bytes_up / (1 << 20),
            "mib_down": self._log.bytes_down / (1 << 20),
            "ended": self._log.ended,
            "report": standing["report"],
            "members": [self._member(one) for one in members["members"]],
            "invitations": [{**one, "expires": _minute(one["expires"])} for one in members["invitations"]],
            "domains": members["domains"],
            "revision": members["revision"],
            "roster_fingerprint": members["roster_fingerprint"],
            "coordinator_fingerprint": members["coordinator_fingerprint"],
            "log": {"lines": self._log.lines, "last": list(self._log.last)[::-1]},
        }

    def _member(self, one: Fields) -> Fields:
        ends = one["certificate_ends"]
        lifetime = timedelta(days=self._registrar.settings.certificate_days)
        soon = ends is not None and expires_soon(datetime.fromisoformat(ends), lifetime, self._now())
        return {
            "name": one["name"],
            "domain": one["domain"],
            "fingerprint": one["fingerprint"],
            "certificate_ends": "" if ends is None else ends[:10],
            "soon": soon and one["revoked"] is None,
            "revoked": None if one["revoked"] is None else f"{one['revoked'][:10]} {one['reason']}".strip(),
        }

    def _stands(self) -> Fields:
        if self._standing is None or self._clock() - self._standing_at >= EVERY_S:
            self._standing = status_fields(self._folder, self._registrar.settings)
            self._standing_at = self._clock()
        return self._standing

    def _version(self) -> str:
        """Return what changes when a file does, or when the running service says something else."""
        settings = self._registrar.settings
        records = (MEMBERSHIP_FILE, f"{MEMBERSHIP_FILE}-wal", STORE_FILE)
        marks = [mark_of(self._folder / name) for name in (settings.log, *records)]
        standing = self._stands()
        told = (
            standing["state"],
            standing["report"],
            standing["phase"],
            standing["doing"],
            standing["connected"],
        )
        return " ".join([*marks, str(standing["running"]), str(hash(str(told)))])


def _confirmed(name: str, fields: Mapping[str, str]) -> None:
    if fields.get("again", "").strip() != name:
        raise InvalidInput("nothing was changed: type the institution's name to confirm it")


def _institution(name: str, standing: Fields) -> Fields:
    doing = standing["doing"].get(name)
    seen = standing["last_seen"].get(name)
    meaning = None if doing is None or doing["reason"] is None else meaning_of(doing["reason"])
    return {
        "name": name,
        "connected": name in standing["connected"],
        "doing": doing_words(doing),
        "seen": "never" if seen is None else _minute(seen),
        "advice": None if meaning is None else f"{meaning.said}; {meaning.call}",
    }


def _column(one: Attempt) -> Fields:
    marks = {}
    for name in one.participants:
        if name in one.contributors:
            marks[name] = "in"
        elif name in one.declined or name in one.dropped or one.status not in ("open", "completed"):
            marks[name] = "out"
        else:
            marks[name] = "part"
    return {
        "label": f"{one.round}" if one.attempt == 1 else f"{one.round}.{one.attempt}",
        "said": one.phase if one.status == "open" else one.status,
        "marks": marks,
    }


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")
