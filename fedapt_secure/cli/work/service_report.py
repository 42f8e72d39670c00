"""What ``server status`` shows: what the running service says of itself, else what its folder holds."""

import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.reader import segments
from fedapt_secure.protocol.hiding import hidden
from fedapt_secure.protocol.reasons import meaning_of
from fedapt_server.archive.own_log import last_seen
from fedapt_server.archive.store import STORE_FILE, SessionStore, StoredSession
from fedapt_server.ports.health_port import LOOPBACK
from fedapt_server.settings import ServerSettings

TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 1 << 20
_STATES: Final = {
    "waiting": "no session was begun",
    "gathering": "gathering institutions for the next round",
    "returning": "no round can take place until somebody who is out comes back",
    "round": "in a round",
    "closing": "closing: institutions store and sign the finished model",
    "ended": "ended",
    "unfinished": "not ended; 'fedapt-secure server run' resumes it",
}


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
    fields["last_seen"] = seen | (told or {}).get("last_seen", {})
    fields["institutions"] = sorted({*_members(directory), *fields["last_seen"]})
    return fields


def print_status(out: Console, fields: dict[str, Any]) -> None:
    """Print what `status_fields` returned."""
    if not fields["running"]:
        out.print("the service does not run (or its health port is off); this is what its folder holds")
    elif not fields["ok"]:
        out.print("the service runs and is not ready: it begins just now, or has failed; look at its log")
    else:
        out.print("the service runs")
    if fields["session"] is not None:
        out.print(f"session    {fields['session']}, {_STATES[fields['state']]}", markup=False)
        where = f"round {fields['round']} of {fields['rounds']}" if fields["round"] else "before round 1"
        details = f", attempt {fields['attempt']}" * bool(fields["round"])
        details += f", phase {fields['phase']}" * bool(fields["phase"])
        out.print(
            f"rounds     {where}{details}; {fields['completed']} completed, {fields['aborted']} aborted",
            markup=False,
        )
        out.print(f"each sum   {fields['said_of_sums']}", markup=False)
    if fields["ends"]:
        out.print(f"rounds are probably over at {fields['ends'].replace('+00:00', ' UTC')}", markup=False)
    if fields["reason"]:
        out.print(f"no session is open: {fields['reason']}", markup=False)
    if not fields["institutions"]:
        out.print("no institutions are enrolled")
        return
    table = Table("institution", "connected", "last seen (UTC)", "doing")
    for name in fields["institutions"]:
        connected = "yes" if name in fields["connected"] else "no" if fields["running"] else ""
        seen = fields["last_seen"].get(name, "never").replace("+00:00", "")
        table.add_row(escape(name), connected, escape(seen), escape(_doing(fields["doing"].get(name))))
    out.print(table)
    for name, doing in fields["doing"].items():
        if doing["reason"] is not None:
            meaning = meaning_of(doing["reason"])
            out.print(f"{name}: {meaning.said}; {meaning.call}", markup=False)


def _doing(doing: dict[str, Any] | None) -> str:
    """Return what an institution is doing, in a few words."""
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
