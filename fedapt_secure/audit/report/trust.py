"""Who saw what: for each party what it holds, and what its collusion with whom breaks.

It follows from the scheme, the number of institutions and whether one is alone with its key; the claims are
those of SECURITY.md and docs/what-a-sum-hides.md, in short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fedapt_crypto.roster import threshold
from fedapt_crypto.secagg.cohorts import EVERYBODY
from fedapt_crypto.secagg.masking.graph import FULL_GRAPH_UP_TO
from fedapt_crypto.secagg.registry import CKKS, MASKING, NONE
from fedapt_secure.audit.evidence.deployment import SessionFacts
from fedapt_secure.audit.judgement import Judgement
from fedapt_secure.protocol.hiding import Hiding

_NOISE: Final = "what protects then is each institution's own noise, which is what ε counts"
_NO_NOISE: Final = "nothing protects then: there was no differential privacy"
SOURCE: Final = "SECURITY.md and docs/what-a-sum-hides.md; 'fedapt-secure docs SECURITY.md' prints the former"


@dataclass(frozen=True)
class TrustRow:
    """One party: what it holds, and what can be learnt in league with others."""

    party: str
    holds: str
    collusion: str


@dataclass(frozen=True)
class TrustTable:
    """The parties of sessions of one kind.

    Attributes:
        sessions: Which ones. scheme: Their secure aggregation, ``None`` where no log says it.
        rows: One for each party.
    """

    sessions: tuple[str, ...]
    scheme: str | None
    rows: tuple[TrustRow, ...]


@dataclass(frozen=True)
class _Kind:
    """What the table depends on.

    Attributes:
        scheme: Secure aggregation. parties: Institutions in a round; 0 where that is not known.
        hiding: Whether the sums hide a single institution. private: Whether all trained privately.
        bundle: Whether the coordinator may have the finished bundle; ``None`` where no plan says it.
    """

    scheme: str | None
    parties: int
    hiding: Hiding
    private: bool
    bundle: bool | None


def trust_tables(judgement: Judgement) -> tuple[TrustTable, ...]:
    """Return a table for all sessions of which the same is to be said."""
    hiding = {one.session: one.hiding for one in judgement.sums}
    private = all(party.private for party in judgement.parties if not party.is_coordinator)
    kinds: dict[_Kind, list[str]] = {}
    for one in judgement.deployment.sessions:
        kind = _Kind(
            one.scheme,
            _in_a_round(one),
            hiding.get(one.session, Hiding.UNKNOWN),
            private,
            one.plan.bundle_for_coordinator if one.plan is not None else None,
        )
        kinds.setdefault(kind, []).append(one.session)
    return tuple(TrustTable(tuple(sessions), kind.scheme, _rows(kind)) for kind, sessions in kinds.items())


def _in_a_round(session: SessionFacts) -> int:
    if session.participation == EVERYBODY:
        return len(session.institutions)
    return len(session.plan.domains) if session.plan is not None else 0


def _rows(kind: _Kind) -> tuple[TrustRow, ...]:
    rows = [_coordinator(kind), *_institutions(kind)]
    noise = "bounded by ε" if kind.private else "bounded by nothing, without differential privacy"
    rows.append(
        TrustRow(
            "An auditor, or whoever is given these logs",
            "Plans, ε, hashes, times, and who took part. No images, updates, models, keys or accuracies.",
            "Adds nothing to what the party in league with it holds.",
        )
    )
    rows.append(
        TrustRow(
            "Whoever is given the finished model",
            "The model, and what it answers to images of its own.",
            f"May try to infer whose images were used: {noise}.",
        )
    )
    rows.append(
        TrustRow(
            "An outsider on the network",
            "Sizes and times of encrypted messages (TLS 1.3, certificates on both sides).",
            "With a party of the federation: what that party holds.",
        )
    )
    return tuple(rows)


def _coordinator(kind: _Kind) -> TrustRow:
    meta = "Who takes part, when, sizes of messages."
    left = _NOISE if kind.private else _NO_NOISE
    bundle = {
        True: " The session gives it the finished model.",
        False: " Domain keys, which the models of some methods need, it is not given.",
        None: " Whether it may have the finished model, the logs do not say.",
    }[kind.bundle]
    if kind.scheme == MASKING:
        alone = ""
        if kind.hiding is Hiding.NO_ALONE:
            alone = (
                " Of an institution that is alone with its key: its update too, with effort and without"
                f" anybody's help; {left}."
            )
        holds = (
            f"{meta} Updates under masks only; each round's sum in clear, so the shared part of the model."
        )
        return TrustRow("The coordinator", holds + bundle + alone, _masking_bounds(kind, left))
    if kind.scheme == CKKS:
        holds = f"{meta} Ciphertexts of updates and sums, and no secret key: neither updates nor model."
        bundle = " Domain keys, where the session lets it have them, and no model to go with them."
        return TrustRow(
            "The coordinator",
            holds + (bundle if kind.bundle else ""),
            f"With any single institution: every update, for all hold the one key; {left}.",
        )
    if kind.scheme == NONE:
        holds = f"{meta} Every update in clear, each sum, the shared part of the model."
        return TrustRow("The coordinator", holds + bundle, f"There is nothing left to break; {left}.")
    return TrustRow("The coordinator", f"{meta} More, the logs do not say.", "The logs do not say.")


def _masking_bounds(kind: _Kind, left: str) -> str:
    parties = kind.parties
    first = (
        "With one institution it knows the session's group secret: it may replace a sum, hold the model still"
        " and compare sums of several rounds."
    )
    if not parties:
        return f"{first} How many may be in league with it, the number of institutions would say."
    if parties > FULL_GRAPH_UP_TO:
        return (
            f"{first} Within a round, up to a tenth of the institutions in league with it learn no single"
            f" honest update; with more, {left}."
        )
    reached = threshold(parties)
    most = min(2 * reached - parties - 1, reached - 2)
    if most < 1:
        return f"{first} With {parties} institutions no collusion is tolerated within a round; {left}."
    but = " (and what can be separated from it, see what it holds)" if _separable(kind) else ""
    return (
        f"{first} Within a round, {most} of {parties} institutions in league with it still learn only a sum"
        f" of at least two honest updates{but}; with more, {left}."
    )


def _institutions(kind: _Kind) -> Sequence[TrustRow]:
    left = _NOISE if kind.private else _NO_NOISE
    own = "Its own data, which do not leave it."
    last = "All institutions but one together learn the remaining one's update, the sum less their own"
    if kind.scheme == CKKS:
        holds = f"{own} The one secret key of the session, each sum, the model of each round."
        return [TrustRow("Each institution", holds, f"With the coordinator: every update. {last}; {left}.")]
    if kind.scheme is None:
        return [TrustRow("Each institution", f"{own} More, the logs do not say.", f"{last}; {left}.")]
    keys = "" if kind.scheme == NONE else " The session's group secret."
    alone = " Once keys are opened, also updates of those alone with their key." if _separable(kind) else ""
    holds = f"{own} Each round's sum, the model of each round, and the finished one.{keys}{alone}"
    return [TrustRow("Each institution", holds, f"{last}; {left}.")]


def _separable(kind: _Kind) -> bool:
    return kind.hiding is Hiding.NO_ALONE
