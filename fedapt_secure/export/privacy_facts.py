"""What logs say of a model's privacy: only of the very model, found by its hash in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.audit.evidence.files import Evidence, gather
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement, judge
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.guarantees import Guarantee, guarantees
from fedapt_secure.log.reader import LogReader


@dataclass(frozen=True)
class PrivacyFacts:
    """What an audit of some logs says of a model.

    Attributes:
        verdict: The audit's, in a line.
        institutions: How many institutions' logs say that they end with the model.
        guarantees: Of each data set that these trained it on.
        unprotected: How many of these had sessions without differential privacy.
        not_proved: What no audit proves, in a sentence.
    """

    verdict: str
    institutions: int
    guarantees: tuple[Guarantee, ...]
    unprotected: int
    not_proved: str


def privacy_facts(paths: Sequence[Path], trust: Path | None, digest: str) -> PrivacyFacts:
    """Return what logs say of a model.

    Args:
        paths: Run folders, folders of logs, or logs.
        trust: A roster whose identities are believed.
        digest: SHA-256 of the model's file, hexadecimal.

    Raises:
        InvalidInput: If they cannot be read, were altered, or do not name this model.
    """
    evidence = gather(paths, trust)
    judgement = judge(evidence)
    if judgement.verdict is Verdict.TAMPERED:
        raise InvalidInput(
            "the logs were altered: see 'fedapt-secure audit'; nothing of them goes into the card"
        )
    ended = _ended(evidence, digest)
    if not ended:
        raise InvalidInput(
            f"these logs do not say that they end with this model (SHA-256 {digest[:16]}...): give the"
            " institutions' logs of the session that it is from"
        )
    return _facts(judgement, ended)


def _facts(judgement: Judgement, ended: set[tuple[str, str]]) -> PrivacyFacts:
    institutions = {party for party, _ in ended}
    trained = {
        (party.party, spend.dataset)
        for party in judgement.parties
        for spend in party.spends
        if ended & {(party.party, one.record.session) for one in spend.counted}
    }
    return PrivacyFacts(
        wording.headline(judgement),
        len(institutions),
        tuple(one for one in guarantees(judgement) if (one.party, one.dataset) in trained),
        sum(not party.private for party in judgement.parties if party.party in institutions),
        wording.not_proved(),
    )


def _ended(evidence: Evidence, digest: str) -> set[tuple[str, str]]:
    """Return whose own logs say that they ended with a model, and in which session."""
    return {
        (log.party, str(found.entry.body["session"]))
        for log in evidence.logs
        for found in LogReader(list(log.files)).entries()
        if found.entry.type == "session_ended" and found.entry.body.get("bundle") == digest
    }
