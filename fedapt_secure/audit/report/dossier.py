"""All that an officer files about a training, gathered once for the page and for the annex.

Beside the judgement: guarantees in words, who saw what, what institutions handed over, what the figures rest
on that only one party can know, and with which programs the audit itself was made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fedapt_secure import __version__
from fedapt_secure.audit.evidence.deployment import Deployment, SessionFacts
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement
from fedapt_secure.audit.report.guarantees import Guarantee, guarantees
from fedapt_secure.audit.report.handed_over import HandedOver
from fedapt_secure.audit.report.trust import TrustTable, trust_tables
from fedapt_secure.log.line import FORMAT
from fedapt_secure.protocol.plan import SessionPlan

TO_BE_STATED: Final = "To be stated by the institution"
TO_BE_ANSWERED: Final = "To be answered by the institution."
NOT_RECORDED: Final = "Not recorded in the logs."
NO_ADVICE: Final = "It helps to write such documents and is no legal advice."
SELF_REPORTED: Final = (
    (
        "The noise σ that was added, and the clipping to C",
        "The log states what was planned and counted; nobody but the institution saw the training.",
    ),
    (
        "The sampling rate q that was followed",
        "Which records took part in a step is known to the institution alone.",
    ),
    (
        "The number of records (or persons)",
        "Declared, and rounded down, to two figures and below 100 to a multiple of five; nobody else has seen"
        " the data.",
    ),
    (
        "That a data set is what its identifier says, and distinct from others",
        "The institution's ledger knows its images again; the identifier is drawn at random.",
    ),
    (
        "Whose each image is, where the unit is a person",
        "Subjects are named by the institution.",
    ),
    (
        "The policy: budget, δ, smallest number of participants",
        "The institution's own rule; the audit holds it against what followed, not against what is right.",
    ),
    (
        "Times of lines",
        "Each party's own clock.",
    ),
    (
        "That there was no training beside these logs",
        "What was never written cannot be audited.",
    ),
)
"""What the figures rest on that only the party itself can know, and why."""
_TOOLS: Final = ("dp-accounting", "cryptography", "numpy", "pydantic")


@dataclass(frozen=True)
class Dossier:
    """What page and annex show.

    Attributes:
        judgement: What the audit found.
        made: When this was made.
        sources: The paths that were audited, as they were given.
        guarantees, trust, scores: See those classes.
        plans: Plans that can be named, all different.
    """

    judgement: Judgement
    made: datetime
    sources: tuple[str, ...]
    guarantees: tuple[Guarantee, ...]
    trust: tuple[TrustTable, ...]
    scores: tuple[HandedOver, ...]
    plans: tuple[SessionPlan, ...]

    @property
    def deployment(self) -> Deployment:
        """The federation and its sessions."""
        return self.judgement.deployment

    @property
    def sessions(self) -> tuple[SessionFacts, ...]:
        """All sessions."""
        return self.judgement.deployment.sessions

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes of all plans that can be named, in order."""
        return tuple(dict.fromkeys(name for plan in self.plans for name in plan.class_names))

    @property
    def institutions(self) -> tuple[str, ...]:
        """All institutions that roster or logs name."""
        return known_institutions(self.judgement)

    @property
    def unprotected(self) -> tuple[str, ...]:
        """Institutions that trained without differential privacy, or with noise that can be foretold."""
        parties = self.judgement.parties
        return tuple(party.party for party in parties if not party.is_coordinator and not party.private)

    @property
    def is_bounded(self) -> bool:
        """Whether any data set has a finite ε."""
        return any(math.isfinite(one.epsilon) for one in self.guarantees)

    @property
    def made_said(self) -> str:
        """When it was made, for people."""
        return f"{self.made:%Y-%m-%d %H:%M} UTC"

    @property
    def software(self) -> tuple[tuple[str, str], ...]:
        """Programs and versions that made this answer, and what the logs say of those that trained."""
        return (
            ("Training at the institutions, coordinator", f"{NOT_RECORDED} Format of the logs: {FORMAT}."),
            ("This audit", f"fedapt-secure {__version__}"),
            *((name, installed) for name in _TOOLS if (installed := _version(name)) is not None),
        )


def dossier(
    judgement: Judgement,
    sources: Sequence[object] = (),
    scores: Sequence[HandedOver] = (),
    *,
    now: datetime | None = None,
) -> Dossier:
    """Gather all that is filed; works out ε anew at another δ, which takes a moment.

    Args:
        judgement: What the audit found.
        sources: The paths that were audited.
        scores: What institutions handed over.
        now: When; the current time by default.
    """
    return Dossier(
        judgement=judgement,
        made=(now or datetime.now(UTC)).astimezone(UTC),
        sources=tuple(str(path) for path in sources),
        guarantees=guarantees(judgement),
        trust=trust_tables(judgement),
        scores=tuple(scores),
        plans=plans(judgement),
    )


def plans(judgement: Judgement) -> tuple[SessionPlan, ...]:
    """Return all different plans that can be named: no plan that only an altered log holds."""
    altered = [party.party for party in judgement.parties if party.verdict is Verdict.TAMPERED]
    found: list[SessionPlan] = []
    for plan in judgement.deployment.plans(altered):
        if plan not in found:
            found.append(plan)
    return tuple(found)


def known_institutions(judgement: Judgement) -> tuple[str, ...]:
    """Return all institutions that the roster or the logs name."""
    names = [member.name for member in judgement.deployment.members]
    names += [party.party for party in judgement.parties if not party.is_coordinator]
    names += [name for one in judgement.deployment.sessions for name in one.institutions]
    return tuple(dict.fromkeys(names))


def day(moment: datetime) -> str:
    """Return a time for people, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
