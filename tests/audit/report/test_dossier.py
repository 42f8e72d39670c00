"""What is filed beside the verdict: guarantees in words, who saw what, accuracies that were handed over."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.cohorts import ONE_PER_DOMAIN
from fedapt_secure.audit.checks.recompute import recompute
from fedapt_secure.audit.checks.renyi import rdp_epsilon, renyi_divergence
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.audit.report.dossier import dossier, known_institutions, plans
from fedapt_secure.audit.report.guarantees import (
    COMMON_DELTA,
    contribution_bound,
    epsilon_at,
    grouped,
    in_words,
)
from fedapt_secure.audit.report.handed_over import MAX_BYTES, read_handed_over
from fedapt_secure.audit.report.json_answer import to_fields
from tests.audit.harness import Body, Federation, Terms, federation
from tests.protocol.federation import make_plan

FOUR = ("ink", "chalk", "print", "scan")


def judged(made: Federation, folder: Path, **options: Any) -> Judgement:
    return audit([made.save(folder)], folder / "roster.json", **options)


def shares(words: tuple[str, ...]) -> list[float]:
    return [float(part.split()[-1]) for text in words for part in text.split(" %")[:-1]]


class TestWords:
    def test_what_reveals_nothing(self) -> None:
        guess, chance, alarm, found = shares(in_words(0.0, 0.0, "image"))
        assert (guess, chance, alarm, found) == (50, 50, 1, 1)

    @given(st.floats(0.01, 30), st.floats(0, 0.4), st.floats(1e-9, 0.01))
    def test_randomised_response_is_never_better_than_said(
        self, epsilon: float, more: float, delta: float
    ) -> None:
        """It tells the truth with e^ε/(1 + e^ε), the most that ε allows; a weaker one as well."""
        truth = 1 / (1 + math.exp(-epsilon * (1 - more)))
        guess, _, alarm, found = shares(in_words(epsilon, delta, "image"))
        assert guess >= 100 * truth - 1e-9
        flagged = min(1.0, alarm / 100 / (1 - truth))  # says 'used' so often where it hears it
        assert found >= 100 * flagged * truth - 1e-6 or flagged == 1.0
        assert guess <= 100
        assert found <= 100

    def test_what_nothing_bounds(self) -> None:
        assert in_words(math.inf, 1e-5, "person") == in_words(1e6, 1e-5, "person")
        assert "Nothing bounds" in in_words(math.inf, 1e-5, "person")[0]
        assert "a certain person's images were" in in_words(1.0, 1e-5, "person")[0]

    def test_the_bound_of_a_contribution_names_the_unit(self) -> None:
        assert "person, with all training images" in contribution_bound([1.0], "person")
        assert "C = 0.5 or 1." in contribution_bound([0.5, 1.0], "image")
        assert "do not name" in contribution_bound([], "image")

    def test_the_same_is_said_once(self) -> None:
        said = [("a", ("x",)), ("b", ("y",)), ("c", ("x",)), ("a", ("x",))]
        assert grouped(said) == [(["a", "c"], ("x",)), (["b"], ("y",))]


class TestAnotherDelta:
    def test_sessions_add_up_and_share_it(self, tmp_path: Path) -> None:
        (spend,) = judged(federation(3, sessions=2), tmp_path).parties[1].spends
        once = recompute({(0.5, 2.2): 12}, COMMON_DELTA / 2).epsilon
        assert epsilon_at(spend, COMMON_DELTA) == pytest.approx(2 * once)
        assert epsilon_at(spend, COMMON_DELTA) > spend.committed

    def test_a_filter_is_converted_once(self, tmp_path: Path) -> None:
        made = federation(3, sessions=2, composition="rdp-filter", rdp_order=8.0)
        (spend,) = judged(made, tmp_path).parties[1].spends
        divergence = 24 * renyi_divergence(0.5, 2.2, 8.0)
        assert epsilon_at(spend, COMMON_DELTA) == pytest.approx(rdp_epsilon(divergence, 8.0, COMMON_DELTA))

    def test_what_only_the_ledger_knows_cannot_be_converted(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.spent["clinic-1"].append(1.5)
        made.session(1)
        (spend,) = judged(made, tmp_path).parties[1].spends
        assert spend.carried == pytest.approx(1.5)
        assert epsilon_at(spend, COMMON_DELTA) is None

    def test_noise_that_can_be_foretold_bounds_nothing(self, tmp_path: Path) -> None:
        (spend,) = judged(federation(3, sessions=1, noise="seeded"), tmp_path).parties[1].spends
        assert epsilon_at(spend, COMMON_DELTA) == math.inf


class TestTheTraining:
    def test_federation_sessions_and_plans(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        found = judged(made, tmp_path)
        deployment = found.deployment
        assert deployment.roster == made.roster.hash.hex()
        assert [(one.name, one.domain) for one in deployment.members] == [
            (f"clinic-{number}", domain) for number, domain in enumerate(FOUR, 1)
        ]
        (one,) = deployment.sessions
        assert (one.agreed, one.closed, one.completed) == (True, True, 3)
        assert one.model == made.sums.model.hex()
        assert one.first < one.last <= made.clock.now
        assert plans(found) == (one.plan,)
        assert set(one.signed) == {*made.names, COORDINATOR}
        fields = to_fields(found)["deployment"]
        assert fields["sessions"][0]["class_names"] == ["zero", "one"]
        assert fields["sessions"][0]["model"] == one.model
        assert json.loads(json.dumps(fields)) == fields

    def test_without_the_coordinator_no_plan_is_named(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        made.save(tmp_path)
        found = audit([tmp_path / "logs" / "clinic-1.jsonl"])
        assert plans(found) == ()
        assert found.deployment.members[0].domain is None

    def test_without_a_roster_it_is_the_word_of_a_log(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        made.save(tmp_path)
        (tmp_path / "roster.json").unlink()
        found = audit([tmp_path])
        (one,) = found.deployment.sessions
        assert (one.agreed, one.plan_of, len(plans(found))) == (False, COORDINATOR, 1)

    def test_a_plan_that_is_not_the_one_agreed_on_is_not_named(self, tmp_path: Path) -> None:
        made = Federation(4)
        write = made.logs[COORDINATOR].write

        def other(type: str, body: Body) -> None:
            if type == "session_started":
                body = body | {"plan": body["plan"] | {"class_names": ["cat", "dog"]}}
            write(type, body)

        made.logs[COORDINATOR].write = other  # type: ignore[method-assign]
        made.session(plan=make_plan(domains=FOUR))
        assert plans(judged(made, tmp_path)) == ()

    def test_an_altered_log_names_nothing(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        made.save(tmp_path)
        (tmp_path / "roster.json").unlink()
        log = tmp_path / "logs" / "coordinator.jsonl"
        log.write_bytes(log.read_bytes().replace(b'"zero"', b'"nine"', 1))
        found = audit([tmp_path])
        assert found.verdict == "TAMPERED"
        assert plans(found) == ()


class TestWhoSawWhat:
    def rows(self, judgement: Judgement) -> dict[str, tuple[str, str]]:
        (table,) = dossier(judgement).trust
        return {row.party: (row.holds, row.collusion) for row in table.rows}

    @pytest.mark.parametrize(("institutions", "corrupt"), [(3, 1), (4, 1), (5, 2), (7, 2), (10, 3)])
    def test_the_bounds_are_those_of_the_table_in_security_md(
        self, institutions: int, corrupt: int, tmp_path: Path
    ) -> None:
        made = Federation(institutions)
        made.session(1, rounds=1)
        said = self.rows(judged(made, tmp_path))["The coordinator"][1]
        assert f"{corrupt} of {institutions} institutions in league with it" in said

    def test_two_institutions_hide_nothing_from_a_colluder(self, tmp_path: Path) -> None:
        made = Federation(2)
        made.session(1, rounds=1)
        said = self.rows(judged(made, tmp_path))["The coordinator"][1]
        assert "With 2 institutions no collusion is tolerated" in said

    def test_alone_with_a_key(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        alone = self.rows(judged(made, tmp_path / "alone"))
        assert "alone with its key" in alone["The coordinator"][0]
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR, keys=2))
        shared = self.rows(judged(made, tmp_path / "shared"))
        assert "alone" not in str(shared)

    def test_a_cohort_counts_its_domains(self, tmp_path: Path) -> None:
        made = Federation(6, domains=3)
        plan = make_plan(domains=FOUR[:3], participation=ONE_PER_DOMAIN, keys=1)
        made.session(plan=plan, participation=ONE_PER_DOMAIN)
        assert "1 of 3 institutions" in self.rows(judged(made, tmp_path))["The coordinator"][1]

    def test_ckks_and_none(self, tmp_path: Path) -> None:
        made = Federation(4, Terms(aggregation=("none", "ckks")))
        made.session(1, scheme="ckks", plan=make_plan(domains=FOUR, secure_aggregation="ckks"))
        rows = self.rows(judged(made, tmp_path / "ckks"))
        assert "no secret key: neither updates nor model" in rows["The coordinator"][0]
        assert "With any single institution: every update" in rows["The coordinator"][1]
        assert "With the coordinator: every update" in rows["Each institution"][1]
        made = Federation(4, Terms(aggregation=("none",), require_differential_privacy=False))
        made.session(1, scheme="none", private=False)
        rows = self.rows(judged(made, tmp_path / "none"))
        assert "Every update in clear" in rows["The coordinator"][0]
        assert "there was no differential privacy" in rows["The coordinator"][1]
        assert "bounded by nothing" in rows["Whoever is given the finished model"][1]
        assert "ε counts" not in str(rows)


COUNTS: dict[str, Any] = {
    "test_records": 4,
    "zero_shot_correct": 1,
    "tuned_correct": 3,
    "routed_correct": 4,
    "in_top_5": 4,
    "confusion": [[0, 0, 2], [0, 1, 1], [1, 1, 1]],
    "chosen_keys": [],
}
MEASURED: dict[str, Any] = {
    "images": 3,
    "top_1": 2 / 3,
    "per_class": [
        {"name": "zero", "support": 3, "recall": 2 / 3, "precision": 1.0},
        {"name": "one", "support": 0, "recall": None, "precision": None},
    ],
}


class TestHandedOver:
    def read(self, fields: object, folder: Path, classes: tuple[str, ...] = ("zero", "one")) -> Any:
        (folder / "evaluation.json").write_text(json.dumps(fields))
        (found,) = read_handed_over([f"clinic-1={folder / 'evaluation.json'}"], ["clinic-1"], classes)
        return found

    def test_what_an_institution_keeps(self, tmp_path: Path) -> None:
        found = self.read(COUNTS, tmp_path)
        assert (found.images, found.accuracy, found.untuned) == (4, 0.75, 0.25)
        assert [(one.name, one.images, one.recall) for one in found.classes] == [
            ("zero", 3, 2 / 3),
            ("one", 1, 1.0),
        ]
        assert self.read(COUNTS, tmp_path, ("zero",)).classes == ()
        assert self.read(COUNTS, tmp_path, ()).classes == ()

    def test_what_evaluate_writes(self, tmp_path: Path) -> None:
        found = self.read(MEASURED, tmp_path)
        assert (found.images, found.accuracy, found.untuned) == (3, 2 / 3, None)
        assert [(one.images, one.recall) for one in found.classes] == [(3, 2 / 3), (0, None)]

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            {},
            "text",
            MEASURED | {"top_1": 1.5},
            MEASURED | {"images": 0},
            MEASURED | {"top_1": "0.5"},
            COUNTS | {"tuned_correct": 5},
            COUNTS | {"test_records": 0},
            COUNTS | {"confusion": [[0, -1, 2]]},
        ],
    )
    def test_what_is_no_evaluation(self, fields: object, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"evaluation\.json"):
            self.read(fields, tmp_path)

    def test_who_and_which_file(self, tmp_path: Path) -> None:
        for words, says in (
            ("clinic-1", "expected INSTITUTION=FILE"),
            ("clinic-1=", "expected INSTITUTION=FILE"),
            ("clinic-9=x", "no institution 'clinic-9'"),
            (f"clinic-1={tmp_path / 'none'}", "cannot read"),
            ("clinic-1=a\0b", "zero byte"),
        ):
            with pytest.raises(InvalidInput, match=says):
                read_handed_over([words], ["clinic-1"], ())
        (tmp_path / "large").write_bytes(b" " * (MAX_BYTES + 1))
        with pytest.raises(InvalidInput, match="too large"):
            read_handed_over([f"clinic-1={tmp_path / 'large'}"], ["clinic-1"], ())

    def test_whose_may_be_handed_over(self, tmp_path: Path) -> None:
        made = federation(3, sessions=1)
        made.save(tmp_path)
        alone = audit([tmp_path / "logs" / "clinic-1.jsonl"], tmp_path / "roster.json")
        assert set(known_institutions(alone)) == set(made.names)
