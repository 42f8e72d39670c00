"""Where an institution stands, from its folder alone: no connection, no training library, nothing changed."""

from pathlib import Path
from typing import Any

from fedapt_client.activity import ACTIVITY_FILE, Activity, read_activity
from fedapt_client.books.in_force import policy_in_force
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.own_log import Past, read_own_log
from fedapt_client.membership.enrolment import load_federation
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import fingerprint
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.file import in_use, last_entry

Fields = dict[str, Any]


def describe(folder: PartyFolder, settings: ClientSettings) -> Fields:
    """Return who the institution is, in which sessions it took part, what was spent, and what it is doing.

    ``doing`` is what its process is doing now; ``None`` where none runs, or where that cannot be told.
    ``last`` is what one was doing when it ended.

    Raises:
        InvalidInput: If it is not enrolled, or a file cannot be read.
    """
    federation = load_federation(folder)
    roster = folder.roster() if folder.roster_file.exists() else None
    path = folder.path / settings.log
    # In this order: a process that ends in between has then said what it did last.
    running = in_use(path)
    doing, before = activity_of(folder.path / ACTIVITY_FILE, running)
    last = last_entry(path)
    return {
        "name": federation.name,
        "federation": federation.federation,
        "domain": federation.domain,
        "coordinator_fingerprint": federation.coordinator_fingerprint,
        "certificate_until": folder.certificate().not_after.isoformat(),
        "roster": None
        if roster is None
        else {"institutions": list(roster.names), "coordinator": fingerprint(roster.coordinator_key)},
        "running": running,
        "doing": doing,
        "last": before,
        "last_line": None
        if last is None
        else {"seq": last.seq, "time": last.time.isoformat(), "type": last.type},
        "policy": _policy(folder.path, settings),
        "ledger": str(folder.path / settings.ledger),
        "sessions": _sessions(path, folder.path / settings.ledger),
    }


def _policy(folder: Path, settings: ClientSettings) -> Fields:
    in_force = policy_in_force(folder, settings)
    policy = in_force.policy
    return {
        "source": in_force.source,
        "max_epsilon": policy.max_epsilon,
        "session_epsilon": policy.allowance.session_epsilon,
    }


def activity_of(path: Path, running: bool) -> tuple[Fields | None, Fields | None]:
    """Return what is being done, and what was done last.

    Args:
        path: The activity file.
        running: Whether the institution's process runs.
    """
    found = read_activity(path)
    if found is None:
        return None, None
    if not running:
        return None, _activity_fields(found)
    if found.of_living_process:
        return _activity_fields(found), None
    return None, _activity_fields(found)  # the process that runs could not write the file


def _activity_fields(activity: Activity) -> Fields:
    fields = activity.model_dump(mode="json", exclude={"process", "away_since"}, exclude_none=True)
    if activity.what == "away":
        fields["since"] = activity.away_since or activity.since
    return fields


def _sessions(log: Path, ledger: Path) -> list[Fields]:
    found = read_own_log(log).sessions
    spent = _spent(ledger)
    return [{"session": name, **_session(past), "spent": spent.get(name)} for name, past in found.items()]


def _session(past: Past) -> Fields:
    completed = {number for (number, _), record in past.ended.items() if record.status == "completed"}
    return {
        "accepted_at": past.accepted_at,
        "rounds_joined": len({number for number, _ in past.joined}),
        "rounds_completed": len(completed),
        "bundle": past.bundle,
        "unfinished": past.unfinished,
        "closed": past.closed,
    }


def _spent(path: Path) -> dict[str, Fields]:
    if not path.exists():  # opening one would make it
        return {}

    def nothing_to_admit(*_: object) -> None:
        raise InvalidInput("nothing is accepted while looking")

    return {
        one.terms.session.hex(): {
            "steps": one.steps_taken,
            "max_steps": one.terms.max_steps,
            "epsilon_budget": one.terms.epsilon_budget,
            "delta": one.terms.delta,
        }
        for one in Ledger(path, nothing_to_admit).sessions
    }
