"""All that an institution's page shows, from its folder, ledger and log alone: values that can travel."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fedapt_client.activity import ACTIVITY_FILE, What, read_activity
from fedapt_client.activity_words import activity_line
from fedapt_client.books.approval import APPROVED, Approvals
from fedapt_client.books.in_force import policy_in_force
from fedapt_client.membership.enrolment import load_federation
from fedapt_client.offer_words import offer_rows
from fedapt_client.page.budget import budgets
from fedapt_client.page.offer_file import read_offer
from fedapt_client.page.rounds import FollowedLog, RoundSeen, SessionSeen
from fedapt_client.settings import ClientSettings
from fedapt_client.status import activity_of
from fedapt_client.training.kept_models import KeptModels
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.policy import Policy
from fedapt_secure.log.file import in_use
from fedapt_secure.protocol.reasons import MEANINGS, Reason, meaning_of

TYPED_DIGITS: Final = 16
"""So many of the hash's 64 digits somebody types to agree: 64 bits, more than anybody finds twice."""
REASONS: Final = (
    Reason.NOT_APPROVED,
    Reason.POLICY_PRIVACY,
    Reason.POLICY_EPSILON,
    Reason.POLICY_PARTICIPANTS,
    Reason.POLICY_AGGREGATION,
    Reason.POLICY_COORDINATOR,
    Reason.ROSTER_DIFFERS,
    Reason.CLASSES_DIFFER,
)
"""What people may give as their reason: nothing but the code leaves."""
RECENT: Final = 12
Fields = dict[str, Any]


def page_state(folder: PartyFolder, settings: ClientSettings, log: FollowedLog) -> Fields:
    """Return what the pages show.

    Args:
        folder: The party's folder.
        settings: Its settings.
        log: Its log, as far as it has been read.

    Raises:
        InvalidInput: If it is not enrolled, or a file cannot be read.
    """
    federation = load_federation(folder)
    in_force = policy_in_force(folder.path, settings)
    path = folder.path / settings.log
    running = in_use(path)
    doing, last = activity_of(folder.path / ACTIVITY_FILE, running)
    log.read_on()
    budget = budgets(folder.path / settings.ledger, in_force.policy)
    roster = folder.roster() if folder.roster_file.exists() else None
    return {
        "problem": None,
        "who": f"{federation.name} in {federation.federation}",
        "name": federation.name,
        "domain": federation.domain,
        "coordinator": federation.coordinator_fingerprint,
        "certificate_until": folder.certificate().not_after.isoformat()[:10],
        "roster": None if roster is None else list(roster.names),
        "running": running,
        "doing": _plain_times(activity_line({"running": running, "doing": doing, "last": last})),
        "offer": _offer(folder.path, in_force.policy, budget),
        "session": None if log.current is None else session_fields(log.current, running),
        "earlier": [_earlier(one) for one in list(log.sessions.values())[::-1]],
        "rehearsed": _rehearsed(log),
        "refused": [
            {**one, "time": _minute(one["time"]), "meaning": _meaning(one["code"])}
            for one in list(log.refused)[::-1][:5]
        ],
        "budgets": budget,
        "policy": _policy(in_force.policy),
        "policy_source": in_force.source,
        "log": {"lines": log.lines, "last": list(log.last)[::-1], "file": settings.log.name},
        "models": _models(folder.path, log),
    }


def _offer(folder: Path, policy: Policy, budget: list[Fields]) -> Fields | None:
    found, activity = read_offer(folder), read_activity(folder / ACTIVITY_FILE)
    if found is None:
        return None
    fields = found["fields"]
    wanted = fields["hash"]
    decision = Approvals(folder).decision(wanted)
    waits = activity is not None and activity.what is What.APPROVAL and activity.configuration == wanted
    if decision == APPROVED and not waits:
        return None  # it goes on, or has gone on: the session itself says how
    privacy = fields["privacy"]
    most = max(budget, key=lambda one: one["counted"] or 0.0, default=None)
    spent = 0.0 if most is None else most["counted"] or 0.0
    return {
        "hash": wanted,
        "typed": _groups(wanted[:TYPED_DIGITS]),
        "since": _minute(found["since"]),
        "waits": waits,
        "agreed": decision == APPROVED,
        "decision": None if decision in (None, APPROVED) else _meaning(decision),
        "rows": [list(row) for row in offer_rows(fields) if not row[0].startswith("  ") and row[0] != "hash"],
        "institutions": fields["institutions"],
        "changes": found["changes"],
        "epsilon": None if privacy is None else privacy["epsilon"],
        "spent": spent,
        "curve": [] if most is None else most["curve"],
        "max_epsilon": policy.max_epsilon,
        "session_epsilon": policy.allowance.session_epsilon,
        "trust": _trust(fields),
        "reasons": [{"code": one.value, "said": MEANINGS[one].said} for one in REASONS],
    }


def _trust(fields: Fields) -> list[list[str]]:
    """Return who has to be trusted with what, by the session's scheme."""
    scheme, private = fields["secure_aggregation"], fields["privacy"] is not None
    update = {
        "masking": "sees sums of updates only, while fewer than the threshold work with it",
        "ckks": "sees ciphertexts only; any institution that works with it can read the others' updates",
    }.get(scheme, "sees every institution's update")
    noise = "each institution adds noise of its own" if private else "nothing hides single images from it"
    return [
        ["the coordinator", update],
        ["whoever has the finished model", f"sees what was learnt; {noise}"],
        ["the other institutions", "see the sums and the finished model, as everybody does"],
        ["what is added up", fields["said_of_sums"]],
        ["this institution", "sees and keeps its images, which never leave this machine"],
    ]


def session_fields(found: SessionSeen, running: bool) -> Fields:
    """Return how far a session has come.

    Args:
        found: The session, as its log has it.
        running: Whether the institution's process runs.
    """
    rounds = sorted(found.rounds.values(), key=lambda one: -one.number)
    done = [one for one in rounds if one.status == "completed"]
    return {
        "session": found.session,
        "accepted": _minute(found.accepted),
        "planned": found.planned,
        "completed": len(done),
        "budget": found.budget,
        "epsilon": found.epsilon,
        "ended": _minute(found.ended),
        "closed": found.closed,
        "missing": found.missing,
        "end": _expected(found, done) if running and not found.ended else None,
        "rounds": [_round(one) for one in rounds],
        "recent": RECENT,
        "points": [[one.number, one.epsilon] for one in rounds[::-1] if one.epsilon is not None],
    }


def _round(one: RoundSeen) -> Fields:
    return {
        "round": one.number,
        "status": one.status if one.status != "open" else one.phase,
        "attempts": one.attempts,
        "contributors": one.contributors,
        "epsilon": one.epsilon,
        "began": one.began[11:19],
        "took": _seconds(one.began, one.ended),
    }


def _expected(found: SessionSeen, done: list[RoundSeen]) -> str | None:
    """Return when the session ends if its rounds go on as they went."""
    if len(done) < 2 or not found.planned:
        return None
    first, newest = min(done, key=lambda one: one.number), max(done, key=lambda one: one.number)
    passed = _time(newest.ended) - _time(first.began)
    left = passed * ((found.planned - newest.number) / len(done))
    return (datetime.now(UTC) + left).isoformat(timespec="minutes")[:16].replace("T", " ")


def _earlier(one: SessionSeen) -> Fields:
    done = sum(each.status == "completed" for each in one.rounds.values())
    state = "closed" if one.closed else "ended" if one.ended else "open"
    return {
        "session": one.session,
        "accepted": _minute(one.accepted),
        "completed": done,
        "planned": one.planned,
        "epsilon": one.epsilon,
        "budget": one.budget,
        "state": state if one.model or not one.ended else "ended without a model",
    }


def _rehearsed(log: FollowedLog) -> Fields | None:
    if log.rehearsed is None:
        return None
    reason = log.rehearsed["reason"]
    return {"time": _minute(log.rehearsed["time"]), "reason": None if reason is None else _meaning(reason)}


def _policy(policy: Policy) -> list[list[str]]:
    body = policy.to_body()
    return [[name, _said(body[name])] for name in sorted(body) if name != "named"]


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def _models(folder: Path, log: FollowedLog) -> list[Fields]:
    """Return the finished models of the sessions that the log knows, newest first."""
    found = []
    for one in list(log.sessions.values())[::-1]:
        path = KeptModels(folder).path(one.session)
        if path.exists():
            scores = _scores(KeptModels(folder).evaluation(one.session))
            found.append({"session": one.session, "path": str(path), "scores": scores})
    return found


def _scores(evaluation: Path) -> Mapping[str, Any] | None:
    try:
        scores = json.loads(evaluation.read_text())
        count = scores["test_records"]
        return {
            "count": count,
            "tuned": scores["tuned_correct"] / count if count else None,
            "zero_shot": scores["zero_shot_correct"] / count if count else None,
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _meaning(code: str) -> str:
    return f"{code}: {meaning_of(code).said}"


def _groups(digits: str) -> str:
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def _plain_times(text: str) -> str:
    text = text.removeprefix("yes: ").removeprefix("no; last: ")
    return re.sub(r"(\d\d\d\d-\d\d-\d\d)T(\d\d:\d\d:\d\d)\+00:00", r"\1 \2 UTC", text)


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _seconds(began: str, ended: str) -> float | None:
    if not began or not ended:
        return None
    return round((_time(ended) - _time(began)) / timedelta(seconds=1), 1)
