"""What an audit can conclude, and a single thing it found: whose log, which line, what kind of fault."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MAX_KEPT: Final = 20
"""Findings kept of one kind and party; the rest is counted. A rewritten log has a fault in every line."""


class Verdict(StrEnum):
    """The four answers, from good to bad; `worst` orders them."""

    VERIFIED = "VERIFIED"
    OPEN = "OPEN"
    VIOLATED = "VIOLATED"
    TAMPERED = "TAMPERED"

    @property
    def severity(self) -> int:
        """0 for VERIFIED, larger is worse."""
        return list(Verdict).index(self)


def worst(verdicts: Iterator[Verdict]) -> Verdict:
    """Return the worst of some verdicts; VERIFIED where there is none."""
    return max(verdicts, key=lambda verdict: verdict.severity, default=Verdict.VERIFIED)


class Kind(StrEnum):
    """What sort of fault; the word that reports and tests use."""

    # TAMPERED; the first nine are those of the reader of single logs
    NOT_A_LINE = "not a log line"
    CUT_OFF = "cut off"
    HEADER = "header"
    IDENTITY = "identity"
    SIGNATURE = "signature"
    SEQUENCE = "sequence"
    CHAIN = "chain"
    TIME = "time"
    SEGMENT = "segment"
    BODY = "line body"
    HEAD_SIGNATURE = "witnessed signature"
    ROLLED_BACK = "rolled back"
    REWRITTEN = "rewritten"
    FORK = "fork"
    MISSING_LOG = "other log"
    MISSING_SESSION = "missing session"
    CLOSE = "close record"
    CONTEXT = "context"
    TRANSCRIPT = "transcript"
    CONTRIBUTION = "contribution"
    SPEND_SUM = "spend sum"
    STATEMENT = "statement of a sum"
    # VIOLATED
    BUDGET = "budget"
    DELTA = "delta"
    UNDERSTATED = "understated"
    OVERSTATED = "overstated"
    PLAN = "plan"
    RELEASE = "release without spend"
    NO_PRIVACY = "no differential privacy"
    SCHEME = "aggregation scheme"
    UNIT = "unit of privacy"
    PARTICIPANTS = "too few participants"
    RECORDS = "too few records"
    TERMS = "terms of the session"
    COURSE = "course of events"
    RELEASED_TWICE = "released twice"
    POLICY = "policy"
    COHORT = "not the round's cohort"
    INSECURE_NOISE = "predictable noise"
    GROUP = "group secret"
    CONFIGURATION = "configuration"
    SUMS_DIFFER = "sums differ"
    CALLED_ABORTED = "sum given out and called aborted"
    NOT_VERIFIED = "sum not verified"
    MODEL = "model does not follow"
    FINAL_MODEL = "final model"
    SECOND_SUM = "second sum from one model"
    # OPEN
    NOT_CLOSED = "session not closed"
    UNRESOLVED = "sum did not come"
    CLOCKS = "clocks"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        verdict: What follows from it for the party.
        kind: What sort of fault.
        party: Whose log is at fault, as far as the evidence tells.
        file: Name of the file, or ``None`` where no single file is meant.
        line: Line of that file, from 1, or ``None``.
        detail: One sentence for people.
        field: Name of the body's field that is not as it should be, where it is one: ``privacy.max_steps``.
    """

    verdict: Verdict
    kind: Kind
    party: str
    file: str | None
    line: int | None
    detail: str
    field: str | None = None

    @property
    def place(self) -> str:
        """File and line for people."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file} line {self.line}"

    def __str__(self) -> str:
        where = f", {self.place}" if self.file else ""
        return f"{self.party}{where}: {self.kind}: {self.detail}"


@dataclass
class Findings:
    """Collects findings; of each party and kind the first ones are kept and the others counted."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[str, Kind]] = field(default_factory=Counter)

    def add(
        self,
        verdict: Verdict,
        kind: Kind,
        party: str,
        file: str | None,
        line: int | None,
        detail: str,
        field: str | None = None,
    ) -> None:
        """Note one finding.

        Args:
            verdict: What it means for the whole.
            kind: What was found.
            party: In whose log.
            file: Which file; ``None`` where it is none in particular.
            line: Which line, from 1; ``None`` likewise.
            detail: One sentence for people.
            field: Which field of the line's body, where it is one.
        """
        self.counts[party, kind] += 1
        if self.counts[party, kind] <= MAX_KEPT:
            self.kept.append(Finding(verdict, kind, party, file, line, detail, field))

    def tampered(
        self,
        kind: Kind,
        party: str,
        file: str | None,
        line: int | None,
        detail: str,
        field: str | None = None,
    ) -> None:
        """Note a finding after which the records cannot be trusted.

        Args:
            kind: What was found.
            party: In whose log.
            file: Which file, as `add`.
            line: Which line, as `add`.
            detail: One sentence for people.
            field: Which field, as `add`.
        """
        self.add(Verdict.TAMPERED, kind, party, file, line, detail, field)

    def violated(
        self,
        kind: Kind,
        party: str,
        file: str | None,
        line: int | None,
        detail: str,
        field: str | None = None,
    ) -> None:
        """Note that intact records show a broken rule.

        Args:
            kind: What was found.
            party: In whose log.
            file: Which file, as `add`.
            line: Which line, as `add`.
            detail: One sentence for people.
            field: Which field, as `add`.
        """
        self.add(Verdict.VIOLATED, kind, party, file, line, detail, field)

    def verdict(self, party: str) -> Verdict:
        """Return the worst that was found about a party."""
        return worst(finding.verdict for finding in self.kept if finding.party == party)
