"""Policy, ledger and own log together: what is admitted, what logs are told, what is refused and why."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import yaml

from fedapt_client.books.books import Books
from fedapt_client.books.ledger_events import Terms
from fedapt_client.books.own_log import read_own_log
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import BudgetExhausted, InvalidInput, PolicyRefused
from fedapt_secure.config.policy import Policy
from fedapt_secure.config.settings import write_yaml
from fedapt_secure.privacy.budget import PrivacyBudget, PrivacyPlan
from fedapt_secure.privacy.composition import planned_rdp_of
from fedapt_secure.protocol.session import SessionConfiguration
from tests.audit.logs import open_log
from tests.client.books.ledgers import images
from tests.protocol.federation import Federation

PLAN = PrivacyPlan(
    epsilon_budget=3.0,
    delta=1e-6,
    noise_multiplier=2.0,
    sample_rate=0.5,
    max_steps=3,
    declared_records=270,
)
BASE = Federation(3).configuration
NO_MINIMA = {"minimum_records": 0, "minimum_persons": 0}


def one_a_step(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    return float(steps)


def configuration(number: int = 0) -> SessionConfiguration:
    return BASE.model_copy(update={"session": number.to_bytes(16, "big")})


def open_books(folder: Path, policy: Policy | None = None, **settings: object) -> Books:
    if policy is not None:
        write_yaml(folder / "policy.yaml", policy, comment="Ours.")
    fields = {"name": "clinic-1", "port": 1, "data": "x"} | settings
    return Books(folder, ClientSettings(**fields), one_a_step, "gaussian-grid")


def ours(**fields: object) -> Policy:
    """A policy under which sessions add up, and one may take all."""
    figures = {"max_epsilon": 8.0, "max_delta": 1e-5, "composition": "sum", **NO_MINIMA} | fields
    shares = {"session_epsilon": figures["max_epsilon"], "session_delta": figures["max_delta"]}
    return Policy(**(shares | figures))


def accept(books: Books, number: int = 0, plan: PrivacyPlan | None = PLAN, shown=(1, 2, 3)) -> dict:
    return books.accept(configuration(number), plan, 270, images(*shown), None)


def spend(books: Books, number: int = 0) -> None:
    books.reserve(configuration(number).session, 1, 1)


class TestAccept:
    def test_the_log_is_told_the_whole_plan_and_nothing_about_images(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        body = accept(books)
        dataset = body["privacy"]["dataset"]
        assert re.fullmatch("[0-9a-f]{32}", dataset)
        assert body == {
            "session": bytes(16).hex(),
            "configuration": configuration().hash.hex(),
            "roster": BASE.roster.hash.hex(),
            "participation": "all",
            "secure_aggregation": "masking",
            "supervision": "labels",
            "privacy": {
                "dataset": dataset,
                "overlaps": [],
                "unit": "image",
                "declared_records": 270,
                "mechanism": "gaussian-grid",
                "noise": "keystream",
                "noise_multiplier": 2.0,
                "sample_rate": 0.5,
                "max_steps": 3,
                "delta": 1e-6,
                "epsilon_budget": 3.0,
                "epsilon_planned": 3.0,
                "accountant": "prv",
                "composition": "sum",
                "rdp_order": None,
                "spent_before": {"epsilon": 0.0, "rdp": None, "delta": 0.0, "sessions": 0},
                "warning": None,
            },
            "key_commitments": [one.hex() for one in configuration().key_commitments],
            "plan": configuration().plan.model_dump(mode="json"),
        }
        for image in images(1, 2, 3):
            assert not any(one.hex() in json.dumps(body) for one in (*image.files, image.pixels))

    def test_what_was_spent_before_is_stated(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        for number in (1, 2):
            accept(books, number)
            spend(books, number)
        accept(books, 4, shown=(9,))
        spend(books, 4)
        with pytest.raises(PolicyRefused):
            accept(books, 3)
        body = accept(books, 5, shown=(77,))
        assert body["privacy"]["spent_before"] == {"epsilon": 0.0, "rdp": None, "delta": 0.0, "sessions": 0}
        both = open_books(tmp_path, ours(max_epsilon=20.0))
        body = accept(both, 6, shown=(1, 9))
        assert body["privacy"]["spent_before"] == {"epsilon": 9.0, "rdp": None, "delta": 3e-6, "sessions": 3}
        assert len(body["privacy"]["overlaps"]) == 1

    def test_a_session_without_privacy_where_that_is_allowed(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, Policy(require_differential_privacy=False, **NO_MINIMA))
        assert accept(books, 1, plan=None)["privacy"] is None
        spend(books, 1)
        accept(books, 2, plan=None)
        with pytest.raises(PolicyRefused, match="no epsilon bounds what left") as caught:
            accept(books, 3)
        assert caught.value.rule == "max_epsilon"

    def test_insecure_noise_is_marked_refused_by_default_and_counts_without_bound(
        self, tmp_path: Path
    ) -> None:
        options = {"insecure_deterministic_noise": True, "experiment_seed": 1}
        with pytest.raises(PolicyRefused, match="protects nobody") as caught:
            accept(open_books(tmp_path, ours(), **options))
        assert caught.value.rule == "require_differential_privacy"
        books = open_books(tmp_path, Policy(require_differential_privacy=False, **NO_MINIMA), **options)
        assert accept(books)["privacy"]["noise"] == "insecure-deterministic"
        spend(books)
        with pytest.raises(PolicyRefused, match="policy rule max_epsilon: a session without private noise"):
            accept(open_books(tmp_path, ours()), 1)

    def test_restarted_with_the_same_session_it_says_the_same(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=3.0))
        first = accept(books)
        spend(books)
        assert accept(open_books(tmp_path)) == first


class TestRules:
    def test_judging_says_what_accepting_would_and_leaves_nothing_on_record(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=5.0))
        accept(books)
        spend(books)
        kept = [one.to_row() for one in books.ledger.sessions]
        shown = images(4, 5)
        judged = books.judge(configuration(1), PLAN, 270, shown, None)
        assert [one.to_row() for one in books.ledger.sessions] == kept
        accepted = books.accept(configuration(1), PLAN, 270, shown, None)["privacy"]
        assert judged is not None
        assert {**judged, "dataset": ""} == {**accepted, "dataset": ""}
        kept = [one.to_row() for one in books.ledger.sessions]
        with pytest.raises(PolicyRefused, match="epsilon"):
            books.judge(configuration(2), PLAN, 270, images(1, 2, 3), None)
        assert [one.to_row() for one in books.ledger.sessions] == kept

    def test_the_sum_of_plans_is_limited(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=6.0))
        for number in (1, 2):
            accept(books, number)
            spend(books, number)
        with pytest.raises(PolicyRefused, match="2 sessions on these images spent epsilon 6") as caught:
            accept(books, 3)
        assert caught.value.rule == "max_epsilon"
        accept(books, 4, shown=(10, 11))

    def test_delta_is_limited(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=100.0, max_delta=1.5e-6))
        accept(books, 1)
        spend(books, 1)
        with pytest.raises(PolicyRefused) as caught:
            accept(books, 2)
        assert caught.value.rule == "max_delta"

    def test_the_rule_of_composition_stays_what_it_was(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=100.0))
        accept(books, 1)
        spend(books, 1)
        changed = open_books(tmp_path, ours(max_epsilon=100.0, composition="rdp-filter"))
        with pytest.raises(PolicyRefused, match="first session: sum. Write 'composition: sum'") as caught:
            accept(changed, 2)
        assert caught.value.rule == "composition"
        accept(changed, 3, shown=(50,))
        spend(changed, 3)
        reordered = open_books(tmp_path, ours(max_epsilon=100.0, composition="rdp-filter", rdp_order=3.0))
        with pytest.raises(PolicyRefused, match="rdp-filter of order 1.47") as caught:
            accept(reordered, 4, shown=(50,))
        lines = "\n".join(re.findall(r"'([^']*: [^']*)'", str(caught.value)))
        whole = yaml.safe_load(lines) | {"max_epsilon": 100.0}
        accept(open_books(tmp_path, ours(**whole)), 4, shown=(50,))  # what it says to write is taken

    def test_a_policy_that_names_no_rule_leaves_every_data_set_its_own(self, tmp_path: Path) -> None:
        """As after an update from a version whose default was the sum, or with another limit."""
        books = open_books(tmp_path, ours(max_epsilon=6.0))
        accept(books, 1)
        spend(books, 1)
        silent = open_books(tmp_path, ours(max_epsilon=20.0, composition=None))
        old = accept(silent, 2)["privacy"]
        assert (old["composition"], old["rdp_order"], old["spent_before"]["rdp"]) == ("sum", None, None)
        spend(silent, 2)
        new = accept(silent, 3, shown=(50,))["privacy"]
        assert (new["composition"], new["rdp_order"]) == ("rdp-filter", silent.policy.allowance.order)
        spend(silent, 3)
        raised = open_books(tmp_path, ours(max_epsilon=40.0, composition=None))
        assert raised.policy.allowance.order != new["rdp_order"]
        again = accept(raised, 4, shown=(50,))["privacy"]
        assert again["rdp_order"] == new["rdp_order"]
        assert again["spent_before"]["rdp"] == planned_rdp_of(
            [raised.ledger.plan(configuration(3).session).terms.cost], new["rdp_order"]
        )
        with pytest.raises(PolicyRefused, match="2 sessions on these images spent epsilon 6") as caught:
            accept(open_books(tmp_path, ours(max_epsilon=8.0, composition=None)), 5)
        assert caught.value.rule == "max_epsilon"
        with pytest.raises(PolicyRefused, match="at Rényi order .* raise max_epsilon") as caught:
            accept(open_books(tmp_path, ours(max_epsilon=4.0, composition=None)), 6, shown=(50,))
        assert caught.value.rule == "max_epsilon"
        with pytest.raises(PolicyRefused, match="rules that do not add up: sum and rdp-filter") as caught:
            accept(raised, 7, shown=(1, 50))
        assert caught.value.rule == "composition"

    def test_of_two_accepted_under_different_rules_only_one_may_begin(self, tmp_path: Path) -> None:
        accept(open_books(tmp_path, ours(composition="rdp-filter")), 1)
        books = open_books(tmp_path, ours())
        accept(books, 2)
        spend(books, 2)
        for policy in (ours(), ours(composition=None)):
            with pytest.raises(PolicyRefused, match="do not add up|fixed with their first") as caught:
                spend(open_books(tmp_path, policy), 1)
            assert caught.value.rule == "composition"
        accept(books, 3)  # and the images are not locked for ever
        assert books.ledger.steps_spent(configuration(1).session) == 0

    def test_a_limit_may_be_raised_and_lowered(self, tmp_path: Path) -> None:
        for number, most in enumerate((3.0, 6.0), start=1):
            books = open_books(tmp_path, ours(max_epsilon=most))
            accept(books, number)
            spend(books, number)
        with pytest.raises(PolicyRefused):
            accept(open_books(tmp_path, ours(max_epsilon=5.0)), 3)

    def test_the_filter_is_judged_by_renyi_divergence(self, tmp_path: Path) -> None:
        policy = ours(max_epsilon=8.0, composition="rdp-filter")
        books = open_books(tmp_path, policy)
        quiet = PrivacyPlan(3.0, 1e-6, 8.0, 0.5, 3, 270)
        for number in range(1, 5):  # four sums of 3 exceed 8, the filter has room
            accept(books, number, plan=quiet)
            spend(books, number)
        loud = PrivacyPlan(3.0, 1e-6, 0.3, 0.5, 3, 270)
        with pytest.raises(PolicyRefused, match="at Rényi order"):
            accept(books, 9, plan=loud)

    def test_of_two_accepted_sessions_one_may_begin(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=3.0))
        accept(books, 1)
        accept(books, 2)
        spend(books, 2)
        with pytest.raises(PolicyRefused):
            spend(books, 1)


class TestSpend:
    def test_the_line_about_a_round(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        dataset = accept(books)["privacy"]["dataset"]
        session = configuration().session
        budget = PrivacyBudget(PLAN, one_a_step)
        budget.reserve(1)
        assert books.reserve(session, 1, 1) == 1
        assert books.spend_body(session, 1, 1, budget) == {
            "session": session.hex(),
            "round": 1,
            "dataset": dataset,
            "steps": 1,
            "total_steps": 1,
            "noise_multiplier": 2.0,
            "sample_rate": 0.5,
            "delta": 1e-6,
            "epsilon": 1.0,
        }
        assert books.reserve(session, 1, 1) == 0, "another attempt of the round costs nothing more"
        books.reserve(session, 2, 1)
        books.reserve(session, 3, 1)
        with pytest.raises(BudgetExhausted):
            books.reserve(session, 4, 1)


class TestPolicyInTheLog:
    def test_it_is_written_when_it_differs_from_the_last_one(self, tmp_path: Path) -> None:
        body = open_books(tmp_path).policy_body()
        assert body["source"] == "defaults: there is no policy file"
        assert body["hash"] == Policy().hash
        log = open_log(tmp_path / "log.jsonl")
        log.write("policy", body)
        assert open_books(tmp_path).policy_body() is None
        changed = open_books(tmp_path, ours(max_epsilon=1.0)).policy_body()
        assert (changed["max_epsilon"], changed["source"]) == (1.0, "policy.yaml")
        log.write("policy", changed)
        assert open_books(tmp_path).policy_body() is None
        (tmp_path / "policy.yaml").unlink()
        assert open_books(tmp_path).policy_body() is not None

    def test_a_policy_that_cannot_be_read_stops_everything(self, tmp_path: Path) -> None:
        (tmp_path / "policy.yaml").write_text("max_epsilom: 3\n")
        with pytest.raises(InvalidInput, match="did you mean 'max_epsilon'"):
            open_books(tmp_path)
        assert not (tmp_path / "ledger.sqlite").exists()

    def test_the_session_machine_is_told(self, tmp_path: Path) -> None:
        policy = Policy(
            require_differential_privacy=False, aggregation=("ckks", "masking"), minimum_participants=7
        )
        needs = open_books(tmp_path, policy).requirements
        assert (needs.differential_privacy, needs.aggregation, needs.minimum_participants) == (
            False,
            ("ckks", "masking"),
            7,
        )


def write_log(folder: Path, *lines: tuple[str, dict], name: str = "log.jsonl") -> Path:
    log = open_log(folder / name)
    for kind, body in lines:
        log.write(kind, body)
    log.close()
    return folder / name


class TestLedgerAgainstLog:
    @pytest.mark.parametrize("loss", ["gone", "empty", "older", "other"])
    def test_a_ledger_that_lacks_a_session_is_refused(self, tmp_path: Path, loss: str) -> None:
        books = open_books(tmp_path, ours(max_epsilon=100.0))
        body = accept(books, 1)
        older = (tmp_path / "ledger.sqlite").read_bytes()
        write_log(tmp_path, ("session_accepted", body), ("session_accepted", accept(books, 2)))
        open_books(tmp_path)
        ledger = tmp_path / "ledger.sqlite"
        match loss:
            case "gone":
                ledger.unlink()
            case "empty":
                ledger.write_bytes(b"")
            case "older":
                ledger.write_bytes(older)
            case "other":
                ledger.unlink()
                accept(open_books(tmp_path, log="elsewhere.jsonl"), 7)
        lacking = 1 if loss == "older" else 2
        with pytest.raises(InvalidInput, match=f"lacks {lacking} of the sessions") as caught:
            open_books(tmp_path)
        assert "\n" not in str(caught.value)

    def test_a_ledger_that_lacks_a_spend_is_refused(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        line = ("session_accepted", accept(books))
        before = (tmp_path / "ledger.sqlite").read_bytes()
        spend(books)
        budget = PrivacyBudget(PLAN, one_a_step, steps_spent=1)
        write_log(tmp_path, line, ("spend", books.spend_body(configuration().session, 1, 1, budget)))
        open_books(tmp_path)
        (tmp_path / "ledger.sqlite").write_bytes(before)
        with pytest.raises(InvalidInput, match="lacks steps of 1 of the sessions"):
            open_books(tmp_path)

    def test_archived_parts_of_the_log_count(self, tmp_path: Path) -> None:
        log = open_log(tmp_path / "log.jsonl", segment_bytes=400)
        log.write("session_accepted", {"session": "aa", "privacy": None})
        log.write("policy", {"hash": "old"})
        log.write("policy", {"hash": "new"})
        log.write("spend", {"session": "bb", "total_steps": 8})
        log.close()
        assert len(list(tmp_path.glob("log.*.jsonl"))) > 1, "it was rotated"
        own = read_own_log(tmp_path / "log.jsonl")
        assert own.steps == {"aa": 0, "bb": 8}
        assert own.policy_hash == "new"
        with pytest.raises(InvalidInput, match="lacks 2 of the sessions"):
            open_books(tmp_path)

    def test_other_lines_and_broken_ones_are_passed_over(self, tmp_path: Path) -> None:
        path = write_log(
            tmp_path, ("phase", {"phase": "session_accepted"}), ("refused", {"detail": '"spend"'})
        )
        with path.open("ab") as stream:
            stream.write(b'{"type":"policy","body":7}\n\xff"policy"\n{"type":"policy","body":{"ha')
        assert read_own_log(path).steps == {}
        assert read_own_log(path).policy_hash is None

    def test_no_log_is_no_past(self, tmp_path: Path) -> None:
        assert read_own_log(tmp_path / "log.jsonl").steps == {}


def test_terms_without_bound_cost_infinitely_much() -> None:
    for noise, sigma in (("insecure-deterministic", 2.0), ("none", None), ("keystream", None)):
        terms = Terms(
            session=bytes(16),
            configuration=bytes(32),
            mechanism="x",
            noise=noise,
            unit="image",
            noise_multiplier=sigma,
            sample_rate=0.5,
            max_steps=3,
            delta=1e-6,
            epsilon_budget=1.0,
            declared_records=9,
            composition="sum",
            rdp_order=None,
        )
        assert terms.cost.epsilon(one_a_step) == math.inf


class TestPolicyThatChanges:
    def change(self, folder: Path, **fields: object) -> None:
        write_yaml(folder / "policy.yaml", ours(**fields), comment="Ours.")

    def test_it_holds_from_then_on_and_is_logged_once(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        assert books.policy_body() is not None
        books.read_policy_again()
        assert books.policy_body() is None
        self.change(tmp_path, minimum_participants=5, coordinators=("ab" * 20,), max_message_bytes=1 << 20)
        books.read_policy_again()
        body = books.policy_body()
        assert body is not None
        assert (body["minimum_participants"], body["hash"]) == (5, books.policy.hash)
        assert books.policy_body() is None
        assert books.requirements.minimum_participants == 5
        assert books.requirements.coordinators == books.policy.coordinators
        assert books.requirements.max_message_bytes == 1 << 20

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_session_under_way_is_held_against_it(self, tmp_path: Path, begun: bool) -> None:
        books = open_books(tmp_path, ours())
        accept(books)
        if begun:
            spend(books)
        session = configuration().session
        books.check_again(session)
        changes = (
            ("session_epsilon", {"max_epsilon": 2.5}),
            ("session_delta", {"session_delta": 1e-7}),
            ("composition", {"composition": "rdp-filter"}),
        )
        for rule, change in changes:
            self.change(tmp_path, **change)
            books.read_policy_again()
            for _ in range(2):
                with pytest.raises(PolicyRefused) as caught:
                    books.check_again(session)
                assert caught.value.rule == rule
        self.change(tmp_path, max_epsilon=7.0)
        books.read_policy_again()
        books.check_again(session)

    def test_noise_from_a_seed_is_refused_once_the_policy_asks_for_privacy(self, tmp_path: Path) -> None:
        options = {"experiment_seed": 1, "insecure_deterministic_noise": True}
        books = open_books(tmp_path, Policy(require_differential_privacy=False, **NO_MINIMA), **options)
        accept(books)
        self.change(tmp_path)
        books.read_policy_again()
        with pytest.raises(PolicyRefused, match="require_differential_privacy"):
            books.check_again(configuration().session)

    def test_a_broken_file_is_no_policy_and_the_old_one_is_not_fallen_back_on(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        (tmp_path / "policy.yaml").write_text("unattended: perhaps\n")
        with pytest.raises(InvalidInput, match="unattended"):
            books.read_policy_again()


class TestUnit:
    """Privacy per person where the data says whose each image is."""

    PEOPLE = dataclasses.replace(PLAN, unit="person", max_steps=1)
    IMAGES = dataclasses.replace(PLAN, max_steps=1)

    def accept(self, books: Books, number: int, plan: PrivacyPlan, shown=(1, 2, 3), subjects=None) -> dict:
        return books.accept(configuration(number), plan, 270, images(*shown), subjects)

    def test_the_log_is_told_the_unit_and_nobodys_name(self, tmp_path: Path) -> None:
        body = self.accept(open_books(tmp_path, ours()), 1, self.PEOPLE, subjects=("yusuf", "yusuf", "bea"))
        assert body["privacy"]["unit"] == "person"
        assert "yusuf" not in json.dumps(body)
        assert b"yusuf" not in (tmp_path / "ledger.sqlite").read_bytes()

    def test_a_person_on_other_images_is_known_again_and_charged(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(max_epsilon=8.0))
        first = self.accept(books, 1, self.PEOPLE, (1, 2), ("ada", "bea"))
        spend(books, 1)
        stranger = self.accept(books, 2, self.PEOPLE, (3,), ("cem",))
        again = self.accept(books, 3, self.PEOPLE, (4, 5), ("dan", "bea"))
        assert again["privacy"]["dataset"] == first["privacy"]["dataset"] != stranger["privacy"]["dataset"]
        assert again["privacy"]["spent_before"]["sessions"] == 1
        assert stranger["privacy"]["spent_before"]["sessions"] == 0

    def test_a_person_of_two_data_sets_links_them(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        for number, who in ((1, "ada"), (2, "bea")):
            self.accept(books, number, self.PEOPLE, (number,), (who,))
        assert len(self.accept(books, 3, self.PEOPLE, (8, 9), ("ada", "bea"))["privacy"]["overlaps"]) == 1

    @pytest.mark.parametrize("first_is_person", [True, False])
    def test_a_data_set_keeps_the_unit_of_its_first_session(
        self, tmp_path: Path, first_is_person: bool
    ) -> None:
        books = open_books(tmp_path, ours())
        people, plain = (self.PEOPLE, ("ada",) * 3), (self.IMAGES, None)
        first, second = (people, plain) if first_is_person else (plain, people)
        for number, (plan, subjects) in ((1, first), (2, second)):  # nothing has begun: nothing is fixed
            self.accept(books, number, plan, subjects=subjects)
        spend(books, 1)
        for attempt in (
            lambda: spend(books, 2),
            lambda: self.accept(books, 3, second[0], subjects=second[1]),
        ):
            with pytest.raises(PolicyRefused, match="do not add up") as refused:
                attempt()
            assert refused.value.rule == "privacy_unit"
        self.accept(books, 4, first[0], subjects=first[1])
        spend(books, 4)

    def test_a_policy_may_ask_for_persons(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours(privacy_unit="person"))
        with pytest.raises(PolicyRefused, match="column subject") as refused:
            self.accept(books, 1, self.IMAGES)
        assert refused.value.rule == "privacy_unit"
        self.accept(books, 2, self.PEOPLE, subjects=("ada",) * 3)

    def test_the_same_session_with_other_people_is_another_one(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, ours())
        self.accept(books, 1, self.PEOPLE, subjects=("ada", "bea"))
        self.accept(books, 1, self.PEOPLE, subjects=("bea", "ada", "ada"))
        with pytest.raises(InvalidInput, match="not those"):
            self.accept(books, 1, self.PEOPLE, subjects=("ada", "cem"))

    def test_persons_of_a_session_without_privacy_are_remembered(self, tmp_path: Path) -> None:
        books = open_books(tmp_path, Policy(require_differential_privacy=False, **NO_MINIMA))
        books.accept(configuration(1), None, 270, images(1), ("ada",))
        spend(books, 1)
        with pytest.raises(PolicyRefused) as refused:
            self.accept(books, 2, self.PEOPLE, (2,), ("ada",))
        assert refused.value.rule == "max_epsilon"
