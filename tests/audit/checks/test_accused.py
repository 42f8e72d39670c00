"""One that was lied to looks like one whose log is not true: what it turned down tells them apart."""

from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.findings import Kind, Verdict
from tests.audit.checks.test_sums import VICTIM, add_after, change_line, found, judged
from tests.audit.harness import Body, Federation, Terms

DIFFERENT = {
    "contributors": (["clinic-1", VICTIM], Kind.CONTRIBUTION),
    "status": ("aborted", Kind.TRANSCRIPT),
}


@pytest.fixture
def made() -> Federation:
    return Federation(3, Terms())


def turn_down(made: Federation, detail: str, error: str = "ContextMismatch") -> None:
    def refusal() -> Body:
        session = made.sums.session.hex()
        return {"session": session, "round": 2, "rule": None, "error": error, "detail": detail}

    add_after(made, VICTIM, "round_ended", 2, ("refused", refusal))


@pytest.mark.parametrize("field", DIFFERENT)
def test_one_that_turned_it_down_accuses_the_coordinator(
    made: Federation, tmp_path: Path, field: str
) -> None:
    value, kind = DIFFERENT[field]
    turn_down(made, "coordinator: called a round aborted whose sum it has given out")
    change_line(made, VICTIM, "round_ended", 2, **{field: value})
    made.session()
    judgement = judged(made, tmp_path)
    assert judgement.verdict is Verdict.VIOLATED
    assert (COORDINATOR, kind) in found(judgement)
    assert {party for party, _ in found(judgement)} == {COORDINATOR}
    assert any(f"{VICTIM}, whose account it is, turned down" in one.detail for one in judgement.findings)


@pytest.mark.parametrize(
    ("detail", "error"),
    [("clinic-1: sent something", "ContextMismatch"), ("coordinator: a signature", "VerificationFailed")],
)
def test_another_refusal_accuses_nobody(made: Federation, tmp_path: Path, detail: str, error: str) -> None:
    turn_down(made, detail, error)
    change_line(made, VICTIM, "round_ended", 2, transcript="00" * 32)
    made.session()
    judgement = judged(made, tmp_path)
    assert judgement.verdict is Verdict.TAMPERED
    assert {party for party, _ in found(judgement)} == {VICTIM}


def test_another_configuration_is_the_coordinators(made: Federation, tmp_path: Path) -> None:
    change_line(made, VICTIM, "session_accepted", None, configuration="00" * 32)  # type: ignore[arg-type]
    made.session()
    judgement = judged(made, tmp_path)
    assert (COORDINATOR, Kind.CONFIGURATION) in found(judgement)
    others = {party for party, kind in found(judgement) if kind is Kind.STATEMENT}
    assert others <= {VICTIM}, "each statement is read under its own log's configuration"
