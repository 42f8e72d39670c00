"""Where the service stands: what the running one says of itself, else what its folder holds."""

import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.reader import segments
from fedapt_secure.protocol.hiding import hidden
from fedapt_server.archive.own_log import last_seen
from fedapt_server.archive.store import STORE_FILE, SessionStore, StoredSession
from fedapt_server.ports.health_port import LOOPBACK
from fedapt_server.settings import ServerSettings

TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 1 << 20
REPORTS_FOLDER: Final = "reports"
STATES: Final = {
    "waiting": "no session was begun",
    "gathering": "gathering institutions for the next round",
    "returning": "no round can take place until somebody who is out comes back",
    "round": "in a round",
    "closing": "closing: institutions store and sign the finished model",
    "ended": "ended",
    "unfinished": "not ended; 'fedapt-secure server run' resumes it",
}


def report_path(directory: Path, session: str) -> Path:
    """Return where the page of a session that has ended lies, or would lie.

    Args:
        directory: The coordinator's folder.
        session: Which session, hexadecimal.
    """
    return directory / REPORTS_FOLDER / f"{session}.html"


def status_fields(directory: Path, settings: ServerSettings) -> dict[str, Any]:
    """Return where the service stands, as JSON values.

    Raises:
        InvalidInput: If what is stored cannot be read.
    """
    told = _ask(settings.health_port) if settings.health_port else None
    stored = _stored(directory)
    seen = {name: time.isoformat(timespec="seconds") for name, time in _seen(directory, settings).items()}
    fields = {
        "running": told is not None,
        "ok": None,
        "session": None if stored is None else stored.configuration.session.hex(),
        "state": "waiting" if stored is None else "ended" if stored.progress.ended else "unfinished",
        "reason": None,
        "round": None if stored is None else stored.progress.number,
        "attempt": None if stored is None else stored.progress.attempt,
        "phase": None,
        "rounds": None if stored is None else stored.configuration.plan.rounds,
        "completed": 0 if stored is None else stored.progress.completed_rounds,
        "aborted": 0
        if stored is None
        else sum(record.status == "aborted" for record in stored.progress.records),
        "said_of_sums": None if stored is None else hidden(stored.configuration).said,
        "ends": None,
        "connected": [],
        "doing": {},
        **(told or {}),
    }
    report = None if fields["session"] is None else report_path(directory, fields["session"])
    fields["report"] = str(report) if report is not None and report.exists() else None
    fields["last_seen"] = seen | (told or {}).get("last_seen", {})
    fields["institutions"] = sorted({*_members(directory), *fields["last_seen"]})
    return fields


def doing_words(doing: dict[str, Any] | None) -> str:
    """Return what an institution is doing, in a few words.

    Args:
        doing: As `status_fields` has it; ``None`` where nobody knows.
    """
    if doing is None:
        return ""
    share = f" {doing['percent']} %" if doing["percent"] is not None else ""
    why = f" ({doing['reason']})" if doing["reason"] is not None else ""
    return f"{doing['what']}{share}{why} since {doing['since'][:16].replace('T', ' ')}"


def _ask(port: int) -> dict[str, Any] | None:
    """Return what the service on this machine says of itself; ``None`` where none answers."""
    connection = HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        fields = json.loads(connection.getresponse().read(MAX_ANSWER_BYTES))
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    needed = {"ok", "session", "state", "round", "rounds", "connected", "doing", "last_seen"}
    return fields if isinstance(fields, dict) and needed <= fields.keys() else None


def _stored(directory: Path) -> StoredSession | None:
    if not (directory / STORE_FILE).exists():
        return None
    store = SessionStore(directory)
    return store.unfinished() or store.finished()


def _seen(directory: Path, settings: ServerSettings) -> dict[str, Any]:
    files = [path for path in segments(directory / settings.log) if path.exists()]
    return dict(last_seen(files))


def _members(directory: Path) -> tuple[str, ...]:
    folder = PartyFolder(directory)
    try:
        return folder.roster().names if folder.roster_file.exists() else ()
    except InvalidInput:
        return ()
