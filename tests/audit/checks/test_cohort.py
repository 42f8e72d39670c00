"""Audits of sessions in which each round belongs to one institution of each domain."""

from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.cohorts import ONE_PER_DOMAIN, round_roster
from fedapt_secure.audit.findings import Kind, Verdict
from fedapt_secure.audit.judgement import Judgement, audit
from tests.audit.harness import Body, Federation, digest, forge

CONFIGURATION = digest("configuration", 1)


@pytest.fixture
def federation() -> Federation:
    return Federation(6, domains=3)


def cohort(federation: Federation, number: int) -> tuple[str, ...]:
    return round_roster(federation.roster, ONE_PER_DOMAIN, CONFIGURATION, number).names


def cohort_findings(judgement: Judgement) -> list[tuple[str, Kind]]:
    return [(one.party, one.kind) for one in judgement.findings]


def test_honest_rounds_of_cohorts_are_verified(federation: Federation, tmp_path: Path) -> None:
    federation.session(rounds=4, participation=ONE_PER_DOMAIN)
    judgement = audit([federation.save(tmp_path)])
    assert (judgement.verdict, judgement.findings) == (Verdict.VERIFIED, ())
    assert all(one.startswith("the terms of session") for one in judgement.unchecked), "there is no plan"
    grid = judgement.participation
    for number, column in enumerate(grid.columns, start=1):
        assert set(column.contributed) == set(cohort(federation, number))
        assert column.dropped == {}


def test_a_chosen_cohort_is_found(federation: Federation, tmp_path: Path) -> None:
    """Everybody plays along with a coordinator that fills a round with others than the rule names."""
    wrong = [name for name in federation.names if name not in cohort(federation, 2)]
    federation.session(rounds=3, participation=ONE_PER_DOMAIN, chosen={2: wrong})
    judgement = audit([federation.save(tmp_path)])
    assert judgement.verdict is Verdict.VIOLATED
    assert set(cohort_findings(judgement)) == {(n, Kind.COHORT) for n in (COORDINATOR, *wrong)}
    first = next(one for one in judgement.findings if one.party == COORDINATOR)
    assert first.detail.startswith("round 2 (session ")
    assert f"names {', '.join(cohort(federation, 2))} for it" in first.detail


def test_an_institution_alone_shows_it_too(federation: Federation, tmp_path: Path) -> None:
    wrong = [name for name in federation.names if name not in cohort(federation, 2)]
    federation.session(rounds=3, participation=ONE_PER_DOMAIN, chosen={2: wrong})
    folder = federation.save(tmp_path)
    judgement = audit([folder / "logs" / f"{wrong[0]}.jsonl"], folder / "roster.json")
    assert (wrong[0], Kind.COHORT) in cohort_findings(judgement)


def test_without_the_roster_it_says_what_it_could_not_check(federation: Federation, tmp_path: Path) -> None:
    federation.session(rounds=2, participation=ONE_PER_DOMAIN)
    folder = federation.save(tmp_path)
    (folder / "roster.json").unlink()
    judgement = audit([folder])
    assert cohort_findings(judgement) == []
    assert len([one for one in judgement.unchecked if one.startswith("whose turn each round")]) == 7


def test_a_log_that_denies_the_rule_is_found(federation: Federation, tmp_path: Path) -> None:
    """The coordinator claims that all take part, where the configuration that all signed says otherwise."""
    federation.session(rounds=2, participation=ONE_PER_DOMAIN)
    folder = federation.save(tmp_path)

    def deny(lines: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
        return [
            (type, body | {"participation": "all"} if type == "session_started" else body)
            for type, body in lines
        ]

    forge(folder / "logs" / f"{COORDINATOR}.jsonl", federation.identities[COORDINATOR], deny)
    judgement = audit([folder])
    assert (COORDINATOR, Kind.CONTEXT) in cohort_findings(judgement)


def test_logs_without_the_field_are_of_everybody(tmp_path: Path) -> None:
    federation = Federation(3)
    federation.session(rounds=2)
    folder = federation.save(tmp_path)

    def forget(lines: list[tuple[str, Body]]) -> list[tuple[str, Body]]:
        return [(type, {k: v for k, v in body.items() if k != "participation"}) for type, body in lines]

    for name in federation.parties:
        forge(folder / "logs" / f"{name}.jsonl", federation.identities[name], forget)
    judgement = audit([folder / "logs" / f"{name}.jsonl" for name in federation.parties])
    assert not {Kind.COHORT, Kind.BODY} & {one.kind for one in judgement.findings}
