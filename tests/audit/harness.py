"""Logs of a whole federation, made with real keys and real signatures, for the auditor's tests.

`Federation` writes what the coordinator and its institutions write in sessions of a few rounds: heads
exchanged and countersigned, policies, plans, spends, releases, close records. `forge` is the strongest
forger: it rewrites a log and signs and chains every line again with any key, the party's own included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import EVERYBODY, Participation, round_roster
from fedapt_secure.audit.checks.recompute import recompute
from fedapt_secure.audit.evidence.bodies import policy_hash
from fedapt_secure.config.party_folder import roster_to_json
from fedapt_secure.log.heads import (
    CloseSignature,
    CloseStatement,
    RoundRecord,
    SignedHead,
    closed_body,
    countersign,
    sign_head,
    transcript_digest,
    witnessed_body,
)
from fedapt_secure.log.line import GENESIS, LogHead, SegmentHeader, line_bytes, opened_body, parse_line
from fedapt_secure.privacy.budget import delta_warning
from fedapt_secure.protocol.plan import SessionPlan
from tests.audit.sums import Sums, configured, digest
from tests.support.rosters import roster_of

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
Body = dict[str, Any]
Edit = Callable[[list[tuple[str, Body]]], list[tuple[str, Body]]]


def rehashed(policy: Body) -> Body:
    """Return a policy's body with the hash that belongs to it."""
    return {**policy, "hash": policy_hash(policy)}


@dataclass
class Clock:
    now: datetime = START

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=250)
        return self.now


@dataclass
class Log:
    """One party's log, kept in memory, with its segments."""

    party: str
    identity: Identity
    clock: Clock
    continues: LogHead | None = None
    segments: list[list[bytes]] = field(default_factory=lambda: [[]])
    log_id: bytes = b""
    seq: int = 0
    prev: bytes = GENESIS

    def __post_init__(self) -> None:
        self.log_id = self.log_id or digest("log", self.party, self.continues)[:16]
        self.write("log_opened", opened_body(self._header(continues=self.continues)))

    def _header(self, **rest: Any) -> SegmentHeader:
        role = "coordinator" if self.party == COORDINATOR else "institution"
        return SegmentHeader(self.log_id, self.party, role, self.identity.public_key, **rest)

    def write(self, type: str, body: Body) -> None:
        raw = line_bytes(self.seq, self.clock.tick(), type, body, self.prev, self.identity)
        self.segments[-1].append(raw)
        self.prev, self.seq = sha256(raw).digest(), self.seq + 1

    def rotate(self) -> None:
        first = parse_line(self.segments[-1][0], "").seq
        self.write("log_rotated", {"segment": f"{self.party}.{first:010}.jsonl"})
        self.segments.append([])
        first_hash = sha256(self.segments[0][0]).digest()
        self.write("log_continued", opened_body(self._header(segment_of=first_hash)))

    @property
    def head(self) -> LogHead:
        return LogHead(self.log_id, self.seq - 1, self.prev)

    def save(self, folder: Path) -> None:
        for lines in self.segments[:-1]:
            first = parse_line(lines[0], "").seq
            (folder / f"{self.party}.{first:010}.jsonl").write_bytes(b"".join(x + b"\n" for x in lines))
        (folder / f"{self.party}.jsonl").write_bytes(b"".join(x + b"\n" for x in self.segments[-1]))


@dataclass
class Terms:
    """What an institution plans and allows."""

    noise_multiplier: float = 2.2
    sample_rate: float = 0.5
    max_steps: int = 12
    delta: float = 1e-3
    epsilon_budget: float = 4.0
    max_epsilon: float | None = 12.0
    max_delta: float | None = 1e-2
    composition: str = "sum"
    rdp_order: float | None = None
    minimum_participants: int = 2
    require_differential_privacy: bool = True
    aggregation: tuple[str, ...] = ("masking", "ckks")
    noise: str = "keystream"
    dataset: str = ""
    overlaps: tuple[str, ...] = ()
    unit: str = "image"
    privacy_unit: str | None = None
    """``None``: a log of before policies had it."""
    declared_records: int = 270
    minima: tuple[int, int] | None = None
    """Of records and persons; ``None`` likewise."""


class Federation:
    """A coordinator and its institutions, and the logs that they write."""

    def __init__(
        self, institutions: int = 3, terms: Terms | None = None, *, domains: int | None = None
    ) -> None:
        self.clock = Clock()
        self.terms = terms or Terms()
        self.names = tuple(f"clinic-{number + 1}" for number in range(institutions))
        self.parties = (COORDINATOR, *self.names)
        self.identities = {
            name: Identity.from_private_bytes(digest("identity", name)) for name in self.parties
        }
        entries = [
            (
                name,
                self.identities[name],
                SealingKey(digest("sealing", name)).public_key,
                index if domains is None else index % domains,
            )
            for index, name in enumerate(self.names)
        ]
        self.roster = roster_of(self.identities[COORDINATOR].public_key, entries)
        self.logs = {name: Log(name, self.identities[name], self.clock) for name in self.parties}
        self.spent: dict[str, list[float]] = {name: [] for name in self.names}
        for name in self.names:
            self.logs[name].write("policy", self.policy(name))

    def policy(self, name: str) -> Body:
        terms = self.terms
        body: Body = {
            "max_epsilon": terms.max_epsilon,
            "max_delta": terms.max_delta,
            "composition": terms.composition,
            "rdp_order": terms.rdp_order,
            "require_differential_privacy": terms.require_differential_privacy,
            "aggregation": list(terms.aggregation),
            "minimum_participants": terms.minimum_participants,
            "share_metrics": "never",
            **({} if terms.privacy_unit is None else {"privacy_unit": terms.privacy_unit}),
            **dict(zip(("minimum_records", "minimum_persons"), terms.minima or (), strict=False)),
        }
        return rehashed(body)

    def dataset(self, name: str) -> str:
        return self.terms.dataset or digest("dataset", name).hex()[:32]

    def plan(self, name: str) -> Body:
        terms = self.terms
        event = (terms.sample_rate, terms.noise_multiplier)
        before = self.spent[name]
        return {
            "dataset": self.dataset(name),
            "overlaps": list(terms.overlaps),
            "unit": terms.unit,
            "declared_records": terms.declared_records,
            "mechanism": "gaussian-grid",
            "noise": terms.noise,
            "noise_multiplier": terms.noise_multiplier,
            "sample_rate": terms.sample_rate,
            "max_steps": terms.max_steps,
            "delta": terms.delta,
            "epsilon_budget": terms.epsilon_budget,
            "epsilon_planned": recompute({event: terms.max_steps}, terms.delta).epsilon + 0.01,
            "accountant": "prv",
            "spent_before": {
                "epsilon": sum(before),
                "delta": terms.delta * len(before),
                "sessions": len(before),
            },
            "warning": delta_warning(
                terms.delta, terms.declared_records, "person" if terms.unit == "person" else "image"
            ),
        }

    def planned(self, plan: Body, steps: int) -> Body:
        """Return a privacy plan for another number of steps."""
        event = (self.terms.sample_rate, self.terms.noise_multiplier)
        epsilon = recompute({event: steps}, self.terms.delta).epsilon + 0.01
        return {**plan, "max_steps": steps, "epsilon_planned": epsilon}

    def session(
        self,
        number: int = 1,
        rounds: int = 3,
        *,
        absent: dict[int, str] | None = None,
        aborted: Sequence[int] = (),
        close: bool = True,
        private: bool = True,
        steps: int | None = None,
        participation: Participation = EVERYBODY,
        chosen: dict[int, Sequence[str]] | None = None,
        scheme: str = "masking",
        plan: SessionPlan | None = None,
        sums: bool = True,
    ) -> bytes:
        """Write one session of some rounds.

        ``absent`` names who vanishes in a round after its release, ``chosen`` whoever takes part in a round
        instead of its cohort. Without ``plan`` the logs do not say how anybody trains; without ``sums`` they
        are of before institutions kept the model themselves.
        """
        terms, logs = self.terms, self.logs
        session = digest("session", number)[:16]
        configuration, key = digest("configuration", number), session.hex()
        first, planned, threshold = b"", {"key_commitments": []}, 2
        self.configuration = None
        if plan is not None:
            self.configuration, first, planned = configured(self, session, plan)
            configuration, threshold = self.configuration.hash, self.configuration.threshold
            terms = self.terms = replace(
                terms,
                sample_rate=plan.sample_rate,
                max_steps=plan.rounds * plan.local_steps,
            )
            steps = plan.local_steps
        self.sums = Sums(self, session, configuration, scheme, first, sums)
        local_steps = steps if steps is not None else terms.max_steps // rounds
        logs[COORDINATOR].write(
            "session_started",
            {
                "session": key,
                "configuration": configuration.hex(),
                "roster": self.roster.hash.hex(),
                "institutions": list(self.names),
                "threshold": threshold,
                "rounds": rounds,
                "secure_aggregation": scheme,
                "participation": participation,
                "differential_privacy": private,
                **planned,
            },
        )
        totals = dict.fromkeys(self.names, 0)
        for name in self.names:
            own = self.plan(name) if private else None
            if own is not None and self.configuration is not None:
                own = self.planned(own, self.configuration.planned_steps(name))
            logs[name].write(
                "session_accepted",
                {
                    "session": key,
                    "configuration": configuration.hex(),
                    "roster": self.roster.hash.hex(),
                    "secure_aggregation": scheme,
                    "participation": participation,
                    "privacy": own,
                },
            )
            if own is not None:
                self.spent[name].append(own["epsilon_planned"])
        for name in self.names:
            logs[COORDINATOR].write("connected", {"name": name})
        self.sums.begin()
        for name in self.names:
            logs[COORDINATOR].write("ready", {"name": name})
        self.witness(session, 0)
        records = []
        for round_number in range(1, rounds + 1):
            gone = (absent or {}).get(round_number)
            status = "aborted" if round_number in aborted else "completed"
            cohort = round_roster(self.roster, participation, configuration, round_number).names
            taking_part = tuple((chosen or {}).get(round_number, cohort))
            records.append(
                self._round(
                    session, round_number, status, gone, local_steps if private else 0, totals, taking_part
                )
            )
        self.sums.catch_up(self.names)
        self.witness(session, rounds + 1)
        if close:
            self._close(session, configuration, records)
        return session

    def _round(
        self,
        session: bytes,
        number: int,
        status: str,
        gone: str | None,
        steps: int,
        totals: dict[str, int],
        names: tuple[str, ...],
    ) -> RoundRecord:
        logs, terms, key = self.logs, self.terms, session.hex()
        context, transcript = self.context(session, number), digest("transcript", session, number)
        about = {"session": key, "round": number, "attempt": 1}
        contributors = [name for name in names if name != gone] if status == "completed" else []
        coordinator = logs[COORDINATOR]
        phases = [phase.value for phase in registry.phases(self.sums.scheme)]
        self.sums.catch_up(names)
        before = self.sums.model.hex()
        coordinator.write(
            "round_started",
            {
                **about,
                "participants": list(names),
                "model": before,
                "context": context.hex(),
                "phase": phases[0],
            },
        )
        for name in names:
            logs[name].write(
                "round_joined",
                {**about, "context": context.hex(), "model": before},
            )
            if steps:
                totals[name] += steps
                event = (terms.sample_rate, terms.noise_multiplier)
                spent = recompute({event: totals[name]}, terms.delta).epsilon + 0.01
                logs[name].write(
                    "spend",
                    {
                        "session": key,
                        "round": number,
                        "dataset": self.dataset(name),
                        "steps": steps,
                        "total_steps": totals[name],
                        "noise_multiplier": terms.noise_multiplier,
                        "sample_rate": terms.sample_rate,
                        "delta": terms.delta,
                        "epsilon": spent,
                    },
                )
            logs[name].write("released", {**about, "context": context.hex(), "saturated": 0})
        for phase in [*phases[1:], "verify"]:
            coordinator.write("phase", {"round": number, "phase": phase})
        left_out = [name for name in names if name not in contributors]
        for name in left_out:
            coordinator.write("disconnected", {"name": name})
        ended = {
            **about,
            "status": status,
            "contributors": contributors,
            "context": context.hex(),
            "transcript": transcript.hex() if status == "completed" else None,
        }
        present = [name for name in names if name != gone]
        if status == "completed":
            self.sums.verified(number, contributors, present)
        coordinator.write(
            "round_ended",
            {
                **ended,
                "participants": list(names),
                "dropped": left_out,
                "detail": None,
                "model": self.sums.model.hex(),
                "bytes_up": 1000,
                "bytes_down": 1000,
            },
        )
        for name in left_out:
            coordinator.write("connected", {"name": name})
            coordinator.write("ready", {"name": name})
        for name in present:
            logs[name].write("round_ended", ended)
        self.witness(session, number, present)
        return RoundRecord(
            round=number,
            attempt=1,
            status="completed" if status == "completed" else "aborted",
            context=context,
            transcript=transcript if status == "completed" else None,
        )

    def context(self, session: bytes, number: int) -> bytes:
        """What the parties of a round agree on."""
        if self.configuration is None:
            return digest("context", session, number)
        group = self.sums.group if self.configuration.needs_group else None
        return self.configuration.round_context(number, 1, self.sums.model, group).hash

    def witness(self, session: bytes, number: int, present: Sequence[str] | None = None) -> None:
        """Exchange heads: institutions to coordinator, and all of them back, countersigned."""
        present = self.names if present is None else present
        heads: list[SignedHead] = [
            sign_head(self.identities[name], name, session, number, self.logs[name].head) for name in present
        ]
        coordinator = self.identities[COORDINATOR]
        self.logs[COORDINATOR].write("witnessed", witnessed_body(session, number, heads))
        heads.append(sign_head(coordinator, COORDINATOR, session, number, self.logs[COORDINATOR].head))
        mark = countersign(coordinator, session, number, heads)
        for name in present:
            self.logs[name].write("witnessed", witnessed_body(session, number, heads, mark))

    def _close(self, session: bytes, configuration: bytes, records: Sequence[RoundRecord]) -> None:
        statement = CloseStatement(
            session=session,
            configuration=configuration,
            model=self.sums.model,
            completed_rounds=sum(record.status == "completed" for record in records),
            transcript=transcript_digest(records),
        )
        signatures = [
            CloseSignature(party=name, signature=statement.sign(self.identities[name]))
            for name in (*self.names, COORDINATOR)
        ]
        bundle = digest("bundle", session).hex()
        for name in self.names:
            self.logs[COORDINATOR].write("done", {"name": name, "bundle": bundle})
        for name in self.parties:
            self.logs[name].write("session_closed", closed_body(statement, signatures, []))
        for name in self.names:
            self.logs[name].write(
                "session_ended", {"session": session.hex(), "model": self.sums.model.hex(), "bundle": bundle}
            )

    def save(self, folder: Path, *, simulated: bool = False) -> Path:
        """Write all logs and the roster as a run folder."""
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        for log in self.logs.values():
            log.save(folder / "logs")
        (folder / "roster.json").write_text(roster_to_json(self.roster))
        if simulated:
            (folder / "config.yaml").write_text("seed: 0\n")
        return folder


def federation(
    institutions: int = 3, sessions: int = 2, rounds: int = 3, *, rotate: bool = True, **terms: Any
) -> Federation:
    """Return a federation after some sessions; its logs are rotated once, where that is asked for."""
    made = Federation(institutions, Terms(**terms))
    for number in range(1, sessions + 1):
        made.session(number, rounds)
        if rotate and number == 1:
            for log in made.logs.values():
                log.rotate()
    return made


def read_lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def write_lines(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def forge(path: Path, identity: Identity, edit: Edit) -> None:
    """Rewrite an unrotated log: the edited lines, numbered, chained and signed anew."""
    entries = [parse_line(line, str(path)) for line in read_lines(path)]
    times = [entry.time for entry in entries]
    edited = edit([(entry.type, dict(entry.body)) for entry in entries])
    lines: list[bytes] = []
    prev = GENESIS
    for seq, (type, body) in enumerate(edited):
        raw = line_bytes(seq, times[min(seq, len(times) - 1)], type, body, prev, identity)
        prev = sha256(raw).digest()
        lines.append(raw)
    write_lines(path, lines)
