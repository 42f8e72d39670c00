"""Holds lines of the coordinator's log against those of institutions that say the same.

Where a third party tells who is right the other checks find it. Here two parties speak of what only they
know, so both are named: one of the two logs is not true.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.checks.accused import accuses, said_otherwise
from fedapt_secure.audit.checks.agreement import took_part
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import Facts, Place, Step
from fedapt_secure.audit.findings import Findings, Kind, Verdict
from fedapt_secure.log.line import SESSION_CLOSED

CLOCKS_APART_S: Final = 3600.0
"""How far the order of two parties' lines may be from that of their times."""


def check_counterparts(records: Sequence[LogRecord], facts: Facts, findings: Findings) -> None:
    """Compare what the coordinator and single institutions say of the same.

    Args:
        records: What the logs hold.
        facts: All lines.
        findings: Where to note what does not agree.
    """
    coordinator = next((one for one in records if one.files.is_coordinator and one.is_whole), None)
    if coordinator is None:
        return
    institutions = {one.party: one for one in records if not one.files.is_coordinator and one.is_whole}
    pairs = _Pairs(records, coordinator, institutions, facts, findings)
    pairs.joined()
    pairs.bundles()
    pairs.group_makers()
    pairs.declined()
    pairs.rehearsals()
    pairs.missing()
    pairs.clocks()


class _Pairs:
    """The coordinator's log, and those of institutions, which nothing is missing from."""

    def __init__(
        self,
        records: Sequence[LogRecord],
        coordinator: LogRecord,
        institutions: Mapping[str, LogRecord],
        facts: Facts,
        findings: Findings,
    ) -> None:
        self._records = records
        self._coordinator = coordinator
        self._institutions = institutions
        self._facts = facts
        self._findings = findings

    def _steps(self, record: LogRecord, type: str) -> Iterator[Step]:
        for step in self._facts.course(record.index):
            if step.type == type:
                yield step

    def _differ(
        self,
        one: str,
        here: Place,
        other: str,
        there: Place | None,
        field: str,
        what: str,
        session: str | None = None,
    ) -> None:
        """Note at both parties that they say different things; at the coordinator alone if it was accused."""
        institution = other if one == COORDINATOR else one
        accused = session is not None and accuses(self._records, self._facts, institution, session)
        apart = what + (said_otherwise(institution) if accused else ": one of the two logs is not true")
        for party, place, against in ((one, here, other), (other, there, one)):
            if accused and party != COORDINATOR:
                continue
            file, line = self._where(party, place, session)
            self._findings.violated(
                Kind.COURSE, party, file, line, f"{apart} (against the log of {against})", field
            )

    def _where(self, party: str, place: Place | None, session: str | None) -> tuple[str, int]:
        """Return file and line of a place; where a line is missing, those of the session's beginning."""
        record = self._institutions.get(party, self._coordinator)
        known = record.sessions.get(session or "")
        place = place or (known.place if known is not None else None)
        return (record.files.files[0].name, 1) if place is None else (place.file, place.line)

    def joined(self) -> None:
        """Whoever joined an attempt takes part in it by the coordinator's log, on the same model."""
        started = {
            (step.body["session"], step.body["round"], step.body["attempt"]): step
            for step in self._steps(self._coordinator, "round_started")
        }
        for name, record in self._institutions.items():
            for step in self._steps(record, "round_joined"):
                body = step.body
                if body["session"] not in self._coordinator.sessions:
                    continue
                about = f"round {body['round']}, attempt {body['attempt']}, of session {body['session'][:8]}…"
                if not took_part(
                    [record], self._facts, name, body["session"], body["round"], body["attempt"]
                ):
                    continue  # nothing has come of what it was told; another context is noted elsewhere
                began = started.get((body["session"], body["round"], body["attempt"]))
                if began is None and self._was_interrupted(body):
                    continue  # a crash has taken the line, and what followed it says so
                if began is None:
                    what = f"{name} joined {about}, which the coordinator did not begin"
                    self._differ(name, step.place, COORDINATOR, None, "attempt", what, body["session"])
                elif name not in began.body["participants"]:
                    what = f"{name} joined {about}, and is not among its participants"
                    self._differ(
                        COORDINATOR, began.place, name, step.place, "participants", what, body["session"]
                    )
                elif None not in (mine := body.get("model"), theirs := began.body.get("model")) and (
                    mine != theirs
                ):
                    what = f"{name} and the coordinator began {about} from different models"
                    self._differ(name, step.place, COORDINATOR, began.place, "model", what, body["session"])

    def _was_interrupted(self, body: Mapping[str, Any]) -> bool:
        """Return whether the coordinator notes a restart in an attempt, and that it came to nothing."""
        query = (
            "SELECT count(*) FROM course WHERE log = ? AND session = ? AND type = 'session_resumed'"
            " AND json_extract(body, '$.round') = ? AND json_extract(body, '$.attempt') = ?"
        )
        about = (self._coordinator.index, body["session"], body["round"], body["attempt"])
        return bool(self._facts.one(query, *about)[0])

    def bundles(self) -> None:
        """An institution that signed the end has told the coordinator which bundle it has stored."""
        done = {(step.session, step.body["name"]): step for step in self._steps(self._coordinator, "done")}
        for name, record in self._institutions.items():
            ended = {step.body["session"]: step for step in self._steps(record, "session_ended")}
            for (session, who), step in done.items():
                own = ended.get(session or "")
                if who != name or own is None or own.body.get("bundle") == step.body["bundle"]:
                    continue
                what = f"the bundle that {name} has stored at the end of session {str(session)[:8]}…"
                self._differ(COORDINATOR, step.place, name, own.place, "bundle", f"{what} differs", session)
        self._signers()

    def _signers(self) -> None:
        """Those who signed the end by its record are those who said so by the coordinator's lines."""
        for step in self._steps(self._coordinator, SESSION_CLOSED):
            signed = set(step.body["signatures"]) - {COORDINATOR}
            before = (one for one in self._steps(self._coordinator, "done") if one.place.seq < step.place.seq)
            said = {one.body["name"] for one in before if one.session == step.session}
            if said - signed:  # what a crash has taken of these lines the store kept
                self._findings.violated(
                    Kind.COURSE,
                    COORDINATOR,
                    step.place.file,
                    step.place.line,
                    f"the end of session {str(step.session)[:8]}… is signed by others than those of whom it"
                    f" noted that: {', '.join(sorted(signed ^ said))}",
                    "signatures",
                )

    def group_makers(self) -> None:
        """Whoever made the group secret, by the coordinator's log, says so itself."""
        for step in self._steps(self._coordinator, "group"):
            maker = step.body.get("made_by")
            record = self._institutions.get(maker or "")
            if record is None:
                continue
            made = [one for one in self._steps(record, "group_made") if one.session == step.session]
            if not made:
                about = f"the secret of session {str(step.session)[:8]}…"
                what = f"{maker} made {about}, and its log does not say so"
                self._differ(COORDINATOR, step.place, str(maker), None, "made_by", what, step.session)

    def declined(self) -> None:
        """Whoever declined a round has noted why; the code is what left the institution."""
        query = "SELECT count(*) FROM refusal WHERE log = ? AND session = ? AND round = ? AND code = ?"
        for step in self._steps(self._coordinator, "declined"):
            record = self._institutions.get(step.body["name"])
            if record is None:
                continue
            about = (record.index, step.session, step.body["round"], step.body["reason"])
            if not self._facts.one(query, *about)[0]:
                what = (
                    f"{record.party} declined round {step.body['round']} ({step.body['reason']}), and its log"
                    " holds no such refusal"
                )
                self._differ(COORDINATOR, step.place, record.party, None, "reason", what, step.session)

    def rehearsals(self) -> None:
        """An institution that was asked for a rehearsal has noted the answer that the coordinator has."""
        for step in self._steps(self._coordinator, "rehearsal"):
            for name, answer in (step.body.get("answers") or {}).items():
                record = self._institutions.get(name)
                if record is None or answer == "no_answer":
                    continue
                own = [
                    one.body["reason"] or "ready"
                    for one in self._steps(record, "rehearsed")
                    if one.body["configuration"] == step.body["configuration"]
                ]
                if answer not in own:
                    what = f"the answer of {name} to a rehearsal differs"
                    self._differ(COORDINATOR, step.place, name, None, "answers", what)

    def missing(self) -> None:
        """One record closes a session, with the same signatures in all logs."""
        found: dict[str | None, dict[str, Step]] = {}
        for record in (self._coordinator, *self._institutions.values()):
            for step in self._steps(record, SESSION_CLOSED):
                found.setdefault(step.session, {})[record.party] = step
        for closes in found.values():
            ours = closes.get(COORDINATOR)
            if ours is None:
                continue
            for name, step in closes.items():
                for key in ("missing", "signatures"):
                    if _listed(step.body[key]) != _listed(ours.body[key]):
                        what = f"who signed the end of session {str(step.session)[:8]}… differs"
                        self._differ(name, step.place, COORDINATOR, ours.place, key, what, step.session)
                        break

    def clocks(self) -> None:
        """What happens at one party before it happens at another has the earlier time, within an hour."""
        query = (
            "SELECT i.log, i.file, i.line, max(max(s.time - i.time, i.time - e.time)) FROM course i"
            " JOIN course s ON s.log = ?1 AND s.type = 'round_started' AND s.session = i.session"
            " AND json_extract(s.body, '$.round') = json_extract(i.body, '$.round')"
            " AND json_extract(s.body, '$.attempt') = json_extract(i.body, '$.attempt')"
            " JOIN course e ON e.log = ?1 AND e.type = 'round_ended' AND e.session = i.session"
            " AND json_extract(e.body, '$.round') = json_extract(i.body, '$.round')"
            " AND json_extract(e.body, '$.attempt') = json_extract(i.body, '$.attempt')"
            " WHERE i.type = 'released' AND i.log != ?1 GROUP BY i.log"
        )
        parties = {record.index: name for name, record in self._institutions.items()}
        for log, file, line, apart in self._facts.rows(query, self._coordinator.index):
            if apart > CLOCKS_APART_S and log in parties:
                self._findings.add(
                    Verdict.OPEN,
                    Kind.CLOCKS,
                    parties[log],
                    file,
                    line,
                    f"its clock and the coordinator's were at least {apart / 3600:.1f} hours apart: which of"
                    " them is right the logs do not say",
                    "time",
                )


def _listed(value: Any) -> list[str]:
    return sorted(value)
