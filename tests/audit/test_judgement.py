"""Intact logs that break a rule, and what is counted against which budget."""

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedapt_secure.audit.checks.recompute import merged, recompute
from fedapt_secure.audit.checks.renyi import rdp_epsilon, renyi_divergence
from fedapt_secure.audit.findings import Finding, Kind, Verdict
from fedapt_secure.audit.judgement import Judgement, PartyJudgement, audit
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import dossier
from fedapt_secure.audit.report.html import to_html
from fedapt_secure.audit.report.json_answer import to_fields
from fedapt_secure.audit.report.text import print_report
from fedapt_secure.log.line import parse_line
from tests.audit.harness import Federation, Terms, digest, federation, forge, rehashed
from tests.support.examples import examples

ONE_SESSION = recompute({(0.5, 2.2): 12}, 1e-3).epsilon
CLINICS = {"clinic-1", "clinic-2", "clinic-3"}


def judged(made: Federation, folder: Path, *, trust: bool = True) -> Judgement:
    made.save(folder)
    return audit([folder], folder / "roster.json" if trust else None)


def party(judgement: Judgement, name: str = "clinic-1") -> PartyJudgement:
    return next(one for one in judgement.parties if one.party == name)


def only(judgement: Judgement, kind: Kind) -> list[Finding]:
    assert {one.kind for one in judgement.findings} == {kind}, judgement.findings
    return list(judgement.findings)


class TestRules:
    @pytest.mark.parametrize(
        ("terms", "session", "kind", "says"),
        [
            ({"max_epsilon": 2.0}, {}, Kind.BUDGET, "the policy allows 2"),
            ({"epsilon_budget": 1.0}, {}, Kind.BUDGET, "asked for ε ≤ 1"),
            ({"max_delta": 1e-4}, {}, Kind.DELTA, "the policy allows 1.00e-04"),
            ({"aggregation": ("ckks",)}, {}, Kind.SCHEME, "'masking'; the policy allows ckks"),
            ({"aggregation": ()}, {}, Kind.SCHEME, "the policy allows none at all"),
            ({"minimum_participants": 4}, {}, Kind.PARTICIPANTS, "completed by 3; the policy asks for 4"),
            ({"noise": "insecure-deterministic"}, {}, Kind.INSECURE_NOISE, "not private"),
            ({"privacy_unit": "person"}, {}, Kind.UNIT, "the policy asks for per person"),
            ({"declared_records": 45, "minima": (50, 1)}, {}, Kind.RECORDS, "at most 49 records trained"),
            (
                {"declared_records": 1, "unit": "person", "minima": (1, 5)},
                {},
                Kind.RECORDS,
                "at most 4 persons trained; the policy asks for 5",
            ),
            ({}, {"private": False}, Kind.NO_PRIVACY, "which the policy requires"),
            ({}, {"steps": 6}, Kind.PLAN, "18 steps were spent, the plan allows 12"),
        ],
    )
    def test_a_broken_rule_is_named(
        self, tmp_path: Path, terms: dict[str, Any], session: dict[str, Any], kind: Kind, says: str
    ) -> None:
        made = Federation(3, Terms(**terms))
        made.session(1, **session)
        judgement = judged(made, tmp_path)
        found = only(judgement, kind)
        assert judgement.verdict is Verdict.VIOLATED
        assert {one.party for one in found} == CLINICS
        assert says in found[0].detail
        assert all(one.line and one.file for one in found)
        assert party(judgement, "coordinator").verdict is Verdict.VERIFIED

    @pytest.mark.parametrize(
        "terms",
        [
            {"declared_records": 45, "minima": (49, 100)},  # 45 to 49 images: it may have had them
            {"declared_records": 1, "unit": "person", "minima": (100, 4)},
            {"declared_records": 1},  # of before there were minima
        ],
    )
    def test_who_may_have_had_enough_is_not_accused(self, tmp_path: Path, terms: dict[str, Any]) -> None:
        made = Federation(3, Terms(**terms))
        made.session(1)
        assert judged(made, tmp_path).findings == ()

    def test_noise_that_can_be_foretold_bounds_nothing(self, tmp_path: Path) -> None:
        made = Federation(3, Terms(noise="insecure-deterministic"))
        made.session(1)
        made.terms.noise = "keystream"
        made.session(2)
        judgement = judged(made, tmp_path)
        (spend,) = party(judgement).spends
        assert spend.committed == math.inf
        assert {one.kind for one in judgement.findings} == {Kind.INSECURE_NOISE, Kind.BUDGET}
        assert not party(judgement).private

    def test_without_privacy_where_nobody_requires_it(self, tmp_path: Path) -> None:
        made = Federation(3, Terms(require_differential_privacy=False))
        made.session(1, private=False)
        judgement = judged(made, tmp_path)
        assert judgement.verdict is Verdict.VERIFIED
        assert not party(judgement).private
        assert party(judgement).spends == ()

    def test_the_policy_in_force_at_the_time_counts(self, tmp_path: Path) -> None:
        made = Federation(3, Terms(max_epsilon=6.0))
        made.session(1)
        made.terms.max_epsilon = 1.0  # stricter afterwards
        for name in made.names:
            made.logs[name].write("policy", made.policy(name))
        assert judged(made, tmp_path / "a").verdict is Verdict.VERIFIED
        made.session(2)
        judgement = judged(made, tmp_path / "b")
        found = only(judgement, Kind.BUDGET)
        assert len(found) == 3, "only the second session"
        made = Federation(3, Terms(max_epsilon=1.0))
        made.session(1)
        made.terms.max_epsilon = 50.0  # softer afterwards does not heal
        for name in made.names:
            made.logs[name].write("policy", made.policy(name))
        assert judged(made, tmp_path / "c").verdict is Verdict.VIOLATED

    def test_a_log_without_a_policy_is_said_so(self, tmp_path: Path) -> None:
        made = Federation(3)
        for name in made.names:
            made.logs[name] = type(made.logs[name])(name, made.identities[name], made.clock)
        made.session(1)
        judgement = judged(made, tmp_path)
        assert judgement.verdict is Verdict.VERIFIED
        assert any("a policy of clinic-1" in item for item in judgement.unchecked)
        assert party(judgement).spends[0].budget == made.terms.epsilon_budget

    def test_a_restarted_session_may_be_accepted_twice_and_not_changed(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.session(1, close=False)
        log = made.logs["clinic-1"]
        entries = [parse_line(raw, "") for raw in log.segments[-1]]
        accepted = next(dict(one.body) for one in entries if one.type == "session_accepted")
        log.write("session_accepted", accepted)
        assert {one.kind for one in judged(made, tmp_path / "a").findings} == {Kind.NOT_CLOSED}
        accepted["privacy"] = {**accepted["privacy"], "max_steps": 99}
        log.write("session_accepted", accepted)
        assert Kind.PLAN in {one.kind for one in judged(made, tmp_path / "b").findings}


class TestBudgets:
    def test_sessions_add_up(self, tmp_path: Path) -> None:
        judgement = judged(federation(3, sessions=3, rotate=False, max_epsilon=8.0), tmp_path)
        assert judgement.verdict is Verdict.VERIFIED
        (spend,) = party(judgement).spends
        assert spend.recomputed == pytest.approx(3 * ONE_SESSION)
        assert spend.committed == pytest.approx(3 * (ONE_SESSION + 0.01)), "the larger of both accountants"
        assert spend.margin == pytest.approx(8.0 - spend.committed)
        assert spend.delta == pytest.approx(3e-3)
        assert spend.steps == 36
        joint = spend.jointly()
        assert joint is not None
        assert joint.epsilon == recompute(merged([(0.5, 2.2, 36)]), 3e-3).epsilon < spend.recomputed

    def test_persons_are_said_to_be_persons(self, tmp_path: Path) -> None:
        judgement = judged(federation(3, sessions=2, unit="person", privacy_unit="person"), tmp_path)
        assert judgement.verdict is Verdict.VERIFIED
        assert wording.claim(judgement).endswith("for every data set, per person.")
        assert wording.units_said(judgement.parties) == ", per person"

    def test_who_counts_what_is_said_where_they_differ(self, tmp_path: Path) -> None:
        made = Federation(3)
        plan = made.plan
        made.plan = lambda name: plan(name) | ({"unit": "person"} if name == "clinic-2" else {})
        made.session(1)
        claim = wording.claim(judged(made, tmp_path))
        assert "for the data of clinic-1, clinic-3, per image, not per person" in claim
        assert "for the data of clinic-2, per person" in claim

    def test_two_units_on_the_same_data_do_not_add_up(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.session(1)
        made.terms.unit = "person"
        made.session(2)
        judgement = judged(made, tmp_path)
        found = only(judgement, Kind.UNIT)
        assert judgement.verdict is Verdict.VIOLATED
        assert {one.party for one in found} == CLINICS
        assert "their ε do not add up" in found[0].detail

    def test_the_session_that_passes_the_budget_is_the_one_that_is_named(self, tmp_path: Path) -> None:
        made = federation(3, sessions=2, rotate=False, max_epsilon=5.0)
        judgement = judged(made, tmp_path)
        for one in only(judgement, Kind.BUDGET):
            line = (tmp_path / "logs" / str(one.file)).read_text().splitlines()[(one.line or 0) - 1]
            assert '"spend"' in line, "where it begins to count"
        assert party(judgement).spends[0].margin == pytest.approx(5 - 2 * (ONE_SESSION + 0.01))

    def test_a_session_that_never_began_costs_nothing(self, tmp_path: Path) -> None:
        """Somebody else said no: the next session may spend everything."""
        made = Federation(3, Terms(max_epsilon=ONE_SESSION + 0.1))
        made.session(1, 0, steps=1, close=False)
        made.spent = {name: [] for name in made.names}
        made.session(2)
        judgement = judged(made, tmp_path)
        assert {one.kind for one in judgement.findings} == {Kind.NOT_CLOSED}
        (spend,) = party(judgement).spends
        assert spend.committed == pytest.approx(ONE_SESSION + 0.01)
        assert [one.record.session for one in spend.counted] == [digest("session", 2)[:16].hex()]
        assert party(judgement).sessions == 2

    def test_the_policy_where_a_session_begins_counts(self, tmp_path: Path) -> None:
        """Accepted under one policy, begun under another."""
        for most, verdict in ((50.0, Verdict.VERIFIED), (1.0, Verdict.VIOLATED)):
            made = Federation(3, Terms(max_epsilon=6.0 if most < 6 else 1.0))
            change = made._round

            def begin(*args: Any, change: Any = change, most: float = most, made: Any = made) -> Any:
                made.terms.max_epsilon = most
                for name in made.names:
                    made.logs[name].write("policy", made.policy(name))
                return change(*args)

            made._round = begin  # type: ignore[method-assign]
            made.session(1)
            assert judged(made, tmp_path / str(most)).verdict is verdict

    @pytest.mark.parametrize(
        ("share", "kind"), [({"session_epsilon": 1.0}, Kind.BUDGET), ({"session_delta": 1e-4}, Kind.DELTA)]
    )
    def test_a_session_beyond_its_share(self, tmp_path: Path, share: dict[str, Any], kind: Kind) -> None:
        made = Federation(3)
        plain = made.policy
        made.policy = lambda name: rehashed(plain(name) | share)  # type: ignore[method-assign]
        for name in made.names:
            made.logs[name].write("policy", made.policy(name))
        made.session(1)
        found = only(judged(made, tmp_path), kind)
        assert "the policy allows one session" in found[0].detail

    @pytest.mark.parametrize("named", [["composition"], []])
    def test_another_rule_than_the_policy_names(self, tmp_path: Path, named: list[str]) -> None:
        made = Federation(3)
        plain, plan = made.policy, made.plan
        made.policy = lambda name: rehashed(plain(name) | {"named": named})  # type: ignore[method-assign]
        made.plan = lambda name: plan(name) | {"composition": "rdp-filter", "rdp_order": 6.0}
        for name in made.names:
            made.logs[name].write("policy", made.policy(name))
        made.session(1)
        judgement = judged(made, tmp_path)
        if named:
            assert "counted by composition rdp-filter" in only(judgement, Kind.PLAN)[0].detail
        else:
            assert judgement.verdict is Verdict.VERIFIED, judgement.findings
        assert party(judgement).spends[0].rule == ("rdp-filter", 6.0)

    def test_the_rule_of_a_data_set_cannot_be_changed(self, tmp_path: Path) -> None:
        made = Federation(3)
        plan = made.plan
        made.plan = lambda name: plan(name) | {"composition": "rdp-filter", "rdp_order": 6.0}
        made.session(1)
        made.plan = lambda name: plan(name) | {"composition": "rdp-filter", "rdp_order": 7.0}
        made.session(2)
        assert "the rule was changed" in only(judged(made, tmp_path), Kind.PLAN)[0].detail

    def test_an_interrupted_session_counts_with_its_whole_plan(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.session(1, 2, steps=3, close=False)  # 6 of 12 steps
        judgement = judged(made, tmp_path)
        (spend,) = party(judgement).spends
        assert spend.recomputed == pytest.approx(recompute({(0.5, 2.2): 6}, 1e-3).epsilon)
        assert spend.committed == pytest.approx(ONE_SESSION + 0.01)

    def test_what_the_ledger_spent_before_the_log_counts(self, tmp_path: Path) -> None:
        made = Federation(3, Terms(max_epsilon=5.0))
        for name in made.names:
            made.spent[name] = [3.0]
        made.session(1)
        judgement = judged(made, tmp_path)
        assert only(judgement, Kind.BUDGET)
        assert party(judgement).spends[0].carried == pytest.approx(3.0)

    def test_a_plan_that_forgets_what_was_spent(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.session(1)
        for name in made.names:
            made.spent[name] = []
        made.session(2)
        assert (
            "0 earlier sessions on this data; the log holds 1"
            in only(judged(made, tmp_path), Kind.PLAN)[0].detail
        )

    @pytest.mark.parametrize(("overlap", "verdict"), [(True, Verdict.VIOLATED), (False, Verdict.VERIFIED)])
    def test_data_sets_that_share_records_count_together(
        self, tmp_path: Path, overlap: bool, verdict: Verdict
    ) -> None:
        made = Federation(3, Terms(dataset="aa" * 16, max_epsilon=5.0))
        made.session(1)
        made.terms.dataset = "bb" * 16
        made.terms.overlaps = ("aa" * 16,) if overlap else ()
        if not overlap:
            made.spent = {name: [] for name in made.names}
        made.session(2)
        judgement = judged(made, tmp_path)
        assert judgement.verdict is verdict
        first, second = party(judgement).spends
        assert (first.dataset, second.dataset) == ("aa" * 16, "bb" * 16)
        expected = (2 if overlap else 1) * (ONE_SESSION + 0.01)
        assert second.committed == first.committed == pytest.approx(expected)

    def test_a_session_without_private_noise_leaves_no_bound(self, tmp_path: Path) -> None:
        made = Federation(3)
        plan = made.plan
        made.plan = lambda name: (
            plan(name)
            | {  # type: ignore[method-assign]
                "spent_before": {"epsilon": None, "delta": 0.0, "sessions": 1}
            }
        )
        made.session(1)
        judgement = judged(made, tmp_path)
        assert "unbounded is committed" in only(judgement, Kind.BUDGET)[0].detail.replace("ε = ", "")
        assert party(judgement).spends[0].committed == math.inf

    @pytest.mark.parametrize("order", [4.0, 6.5])
    def test_a_renyi_filter(self, tmp_path: Path, order: float) -> None:
        """Tighter than the sum over several sessions; the conversion is at the policy's δ."""
        terms = {"composition": "rdp-filter", "rdp_order": order, "max_epsilon": 10.0, "max_delta": 1e-3}
        judgement = judged(federation(3, sessions=3, rotate=False, **terms), tmp_path)
        assert judgement.verdict is Verdict.VERIFIED, judgement.findings
        (spend,) = party(judgement).spends
        divergence = 36 * renyi_divergence(0.5, 2.2, order)
        assert spend.committed == pytest.approx(rdp_epsilon(divergence, order, 1e-3))
        assert spend.committed >= recompute({(0.5, 2.2): 36}, 1e-3).epsilon
        assert judged(
            federation(3, 3, rotate=False, **terms | {"max_epsilon": 1.0}), tmp_path / "b"
        ).verdict is (Verdict.VIOLATED)


SIZES = st.sampled_from([5e-324, 1e-300, 1e-12, 0.5, 1.0, 1.5, 7.0, 1e12, 1e300])
SHARES = st.sampled_from([5e-324, 1e-300, 1e-12, 0.5, 1 - 2**-53])


class TestExtremes:
    @settings(max_examples=examples(8, 60), deadline=None)
    @given(st.data())
    def test_any_numbers_that_a_line_may_hold_end_in_a_verdict(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """A party can sign whatever it likes: the answer is a verdict, never a traceback."""
        made = federation(3, sessions=2, rounds=1, rotate=False)
        folder = made.save(tmp_path_factory.mktemp("extreme"))
        plan = {
            "noise_multiplier": data.draw(SIZES),
            "sample_rate": data.draw(SHARES),
            "delta": data.draw(SHARES),
            "max_steps": data.draw(st.sampled_from([1, 12, 10**6, 2**53 - 1])),
            "epsilon_budget": data.draw(SIZES),
            "epsilon_planned": data.draw(SIZES),
            "spent_before": {
                "epsilon": data.draw(st.none() | SIZES),
                "delta": data.draw(SIZES),
                "sessions": data.draw(st.integers(0, 3)),
            },
        }
        policy = {
            "max_epsilon": data.draw(SIZES),
            "max_delta": data.draw(SHARES),
            "composition": data.draw(st.sampled_from(["sum", "rdp-filter"])),
            "rdp_order": data.draw(st.none() | SIZES.filter(lambda order: order > 1)),
        }

        def edit(entries: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
            for type, body in entries:
                if type == "session_accepted":
                    body["privacy"] = body["privacy"] | plan
                elif type == "policy":
                    body.update(policy)
                elif type == "spend":
                    body.update({key: plan[key] for key in ("noise_multiplier", "sample_rate", "delta")})
                    body["epsilon"] = plan["epsilon_planned"]
            return [entry for entry in entries if entry[0] != "witnessed"]

        log = folder / "logs" / "clinic-1.jsonl"
        forge(log, made.identities["clinic-1"], edit)
        judgement = audit([log], folder / "roster.json")
        assert not {one.kind for one in judgement.findings} & {Kind.BODY, Kind.SIGNATURE}
        json.loads(json.dumps(to_fields(judgement), allow_nan=False))
        to_html(dossier(judgement))
        print_report(Console(file=io.StringIO()), judgement)


class TestCounts:
    def test_rounds_sessions_refusals(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(1, 4, absent={2: "clinic-1"}, aborted=[3])
        for number in range(3):
            body = {
                "session": None,
                "round": number,
                "rule": "max_epsilon",
                "error": "PolicyRefused",
                "detail": "no",
            }
            made.logs["clinic-1"].write("refused", body)
        judgement = judged(made, tmp_path)
        one = party(judgement)
        assert (one.sessions, one.closed, one.contributed, one.released) == (1, 1, 2, 4)
        assert one.refusal_count == 3
        assert one.refusals[0].rule == "max_epsilon"
        assert [point.round for point in one.curves[one.spends[0].dataset]] == [1, 2, 3, 4]

    def test_long_histories_are_grouped(self, tmp_path: Path) -> None:
        made = Federation(3, Terms(require_differential_privacy=False))
        made.session(1, 130, private=False)
        judgement = judged(made, tmp_path)
        grid = judgement.participation
        assert len(grid.columns) <= 60
        assert sum(column.rounds for column in grid.columns) == grid.rounds == 130
        assert grid.columns[0].contributed == dict.fromkeys(CLINICS, 3)

    def test_a_lone_institution_is_a_source_of_the_grid(self, tmp_path: Path) -> None:
        made = federation(3)
        made.save(tmp_path)
        judgement = audit([tmp_path / "logs" / "clinic-2.jsonl"])
        assert judgement.participation.source == "clinic-2"
        assert "the coordinator's account of the rounds: its log was not given" in judgement.unchecked


class TestSelfAttested:
    def test_a_simulation(self, tmp_path: Path) -> None:
        made = federation(3)
        made.save(tmp_path, simulated=True)
        judgement = audit([tmp_path], tmp_path / "roster.json")
        assert judgement.self_attested == ("one operator held all keys and logs of this run",)
        one = audit([tmp_path / "logs" / "clinic-1.jsonl"])
        assert one.self_attested == judgement.self_attested, "also when a single log of it is given"

    def test_identities_without_any_roster(self, tmp_path: Path) -> None:
        made = federation(3)
        made.save(tmp_path)
        (tmp_path / "roster.json").unlink()
        judgement = audit([tmp_path])
        assert judgement.verdict is Verdict.VERIFIED
        assert judgement.roster_hash is None
        alone = audit([tmp_path / "logs" / "clinic-1.jsonl"])
        assert any("heads of clinic-2" in item for item in alone.unchecked)


class TestPaths:
    def test_the_same_log_twice_is_read_once(self, tmp_path: Path) -> None:
        federation(3).save(tmp_path)
        log = tmp_path / "logs" / "clinic-1.jsonl"
        judgement = audit([tmp_path, log, log.with_name("clinic-1.0000000000.jsonl"), tmp_path / "logs"])
        assert judgement.verdict is Verdict.VERIFIED
        assert len(judgement.parties) == 4

    def test_logs_from_several_places(self, tmp_path: Path) -> None:
        federation(3).save(tmp_path)
        places = []
        for name in ("clinic-1", "clinic-2", "coordinator"):
            place = tmp_path / "from" / name
            place.mkdir(parents=True)
            for path in (tmp_path / "logs").glob(f"{name}.*"):
                shutil.copy(path, place / path.name.replace(name, "log"))
            places.append(place)
        judgement = audit(places, tmp_path / "roster.json")
        assert judgement.verdict is Verdict.VERIFIED, judgement.findings
        assert [one.party for one in judgement.parties] == ["coordinator", "clinic-1", "clinic-2"]
        assert "clinic-3: its log was not given" in judgement.unchecked

    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(3, 5), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.data())
    def test_whatever_honest_parties_write_is_verified(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        institutions: int,
        sessions: int,
        rounds: int,
        rotate: bool,
        data: st.DataObject,
    ) -> None:
        made = Federation(institutions)
        for number in range(sessions):
            absent = {
                at: data.draw(st.sampled_from(made.names))
                for at in data.draw(st.sets(st.integers(1, rounds), max_size=2))
            }
            made.session(number, rounds, absent=absent)
            if rotate:
                for log in made.logs.values():
                    log.rotate()
        judgement = judged(made, tmp_path_factory.mktemp("honest"))
        assert judgement.verdict is Verdict.VERIFIED, judgement.findings
