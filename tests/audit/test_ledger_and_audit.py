"""Ledger, policy and audit follow one rule, over random histories of sessions with the real three.

`Clinic` does what an institution's shell does, in its order, and can lose power between its steps. What is a
failure: an honest institution is found VIOLATED or TAMPERED, from whole logs or from their end; or the audit
commits another ε than the ledger. Where a crash took the only line about a reservation, the audit may know
less than the ledger, until a later plan states it.
"""

import contextlib
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedapt_client.books.books import Books
from fedapt_client.books.ledger_events import PlannedSession
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import PolicyRefused
from fedapt_secure.audit.findings import Finding, Verdict
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.config.policy import Policy
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_session
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.privacy.budget import PrivacyBudget
from fedapt_secure.privacy.composition import conversion_cost, planned_rdp_of
from fedapt_secure.protocol.session import SessionConfiguration
from tests.audit.harness import forge
from tests.audit.logs import IDENTITY, PARTY, open_log
from tests.client.books.ledgers import images
from tests.protocol.federation import Federation

BASE = Federation(3, rounds=2, local_steps=2, sample_rate=0.5).configuration
RECORDS, DELTA, ROUNDS = 270, 1e-5, 2
EPSILONS = (1.0, 2.0)
NO_MINIMA = {"minimum_records": 0, "minimum_persons": 0}
POLICIES: tuple[dict[str, Any], ...] = (
    {
        "max_epsilon": 4.0,
        "max_delta": 1e-4,
        "session_epsilon": 2.0,
        "session_delta": DELTA,
        "composition": "sum",
    },
    {"max_epsilon": 6.0, "max_delta": 1e-4, "session_epsilon": 2.0, "session_delta": DELTA},
    {"max_epsilon": 3.0, "max_delta": 3e-5, "session_epsilon": 1.0, "session_delta": DELTA},
    {"max_epsilon": 8.0, "max_delta": 4e-5, "composition": "rdp-filter"},
    {"max_epsilon": 8.0, "max_delta": 1e-4, "privacy_unit": "person"},
)
PEOPLE = ("ada", "bea", "cem", "dan", "eva")


class PowerCut(Exception):
    """The process is gone."""


@dataclass
class Clinic:
    """One institution, driven step by step."""

    folder: Path
    segment_bytes: int = 1 << 20
    policy: dict[str, Any] = field(default_factory=lambda: POLICIES[1])
    shown: dict[int, tuple[tuple[int, ...], bool]] = field(default_factory=dict)
    lost_logs: int = 0

    def __post_init__(self) -> None:
        self.write_policy(self.policy)
        self.start()

    @property
    def log_path(self) -> Path:
        return self.folder / "log.jsonl"

    def write_policy(self, fields: dict[str, Any]) -> None:
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(NO_MINIMA | fields))

    def start(self, **log: Any) -> None:
        fields = {"name": PARTY, "port": 1, "data": "x", "dp_delta": DELTA}
        self.books = Books(self.folder, ClientSettings(**fields), epsilon_of, "gaussian-grid")
        self.log: LogWriter = open_log(self.log_path, segment_bytes=self.segment_bytes, **log)
        self.prepared: set[int] = set()
        self.log_policy()

    def log_policy(self) -> None:
        if (body := self.books.policy_body()) is not None:
            self.log.write("policy", body)

    def read_policy_again(self) -> None:
        self.books.read_policy_again()
        self.log_policy()

    def restart(self) -> None:
        self.log.close()
        self.start()

    def lose_the_log(self) -> None:
        """Its disk is gone; others hold its head, with which a new one begins."""
        head = self.log.head()
        self.log.close()
        self.lost_logs += 1
        place = self.folder / f"lost-{self.lost_logs}"
        place.mkdir()
        for path in self.folder.glob("log*.jsonl"):
            shutil.move(path, place / path.name)
        self.start(continues=head)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        try:
            yield
        except PolicyRefused as error:
            body = {"session": None, "round": 0, "rule": error.rule, "error": "PolicyRefused", "detail": "no"}
            self.log.write("refused", body)
        except PowerCut:
            self.restart()

    def accept(self, number: int, epsilon: float, shown: tuple[int, ...], persons: bool, cut: bool) -> None:
        configuration = self.configuration(number)
        with self.refusing():
            self.read_policy_again()
            self.shown.setdefault(number, (shown, persons))
            shown, persons = self.shown[number]
            subjects = tuple(PEOPLE[one] for one in shown) if persons else None
            share = self.books.share(configuration.session)
            if not share.exact or number not in self.accepted:
                share = type(share)(epsilon, DELTA, exact=True)
            plan = plan_session(
                share.epsilon, share.delta, RECORDS, 0.5, 2 * ROUNDS, "person" if persons else "image"
            )
            body = self.books.accept(configuration, plan, RECORDS, images(*shown), subjects)
            if cut:
                raise PowerCut
            self.log.write("session_accepted", body)
            self.prepared.add(number)

    def train(self, number: int, cut: bool) -> None:
        """Take part in the session's next round: reserve, log, use."""
        session = self.configuration(number).session
        if number in self.accepted and number not in self.prepared:  # it is offered again after a restart
            self.accept(number, 1.0, (0,), False, False)
        if number not in self.prepared:
            return
        with self.refusing():
            self.read_policy_again()
            self.books.check_again(session)
            done = self.books.ledger.steps_spent(session) // 2
            round_number = min(done + 1, ROUNDS)
            terms = self.books.ledger.plan(session).terms
            plan = plan_session(terms.epsilon_budget or 0.0, DELTA, RECORDS, 0.5, 2 * ROUNDS, terms.unit)
            reserved = self.books.reserve(session, round_number, 2)
            if cut:
                raise PowerCut
            budget = PrivacyBudget(plan, epsilon_of, steps_spent=self.books.ledger.steps_spent(session))
            self.log.write("spend", self.books.spend_body(session, round_number, reserved, budget))

    def configuration(self, number: int) -> SessionConfiguration:
        return BASE.model_copy(update={"session": number.to_bytes(16, "big")})

    @property
    def accepted(self) -> set[int]:
        return {int.from_bytes(one.terms.session, "big") for one in self.books.ledger.sessions}

    def audited(self, *, old_logs: bool = True) -> Judgement:
        lost = sorted(self.folder.glob("lost-*")) if old_logs else []
        return audit([self.log_path, *lost])

    def ledger_epsilon(self, dataset: str) -> float:
        """What `client ledger show` counts against a data set, by the data set's rule."""
        begun = self.begun(dataset)
        costs = [one.terms.cost for one in begun]
        order = begun[-1].terms.rdp_order
        if order is None:
            return math.fsum(cost.epsilon(epsilon_of) for cost in costs)
        return planned_rdp_of(costs, order) + conversion_cost(order, self.delta)

    def begun(self, dataset: str) -> list[PlannedSession]:
        """The sessions that count against a data set."""
        sessions = self.books.ledger.sessions
        linked = {bytes.fromhex(dataset)}.union(
            *(_names(one) for one in sessions if bytes.fromhex(dataset) in _names(one))
        )
        return [one for one in sessions if one.steps_taken and not _names(one).isdisjoint(linked)]

    delta: float = 1e-5


def _names(one: PlannedSession) -> set[bytes]:
    return {one.dataset, *one.overlaps}


def wrong(judgement: Judgement) -> list[Finding]:
    return [one for one in judgement.findings if one.verdict in (Verdict.VIOLATED, Verdict.TAMPERED)]


SUBSETS = st.sets(st.integers(0, 4), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
NUMBERS = st.integers(1, 5)
RARELY = st.integers(0, 5).map(lambda number: number == 0)
OPERATIONS = st.one_of(
    st.tuples(st.just("accept"), NUMBERS, st.sampled_from(EPSILONS), SUBSETS, RARELY, RARELY),
    st.tuples(st.just("train"), NUMBERS, st.booleans()),
    st.tuples(st.just("train"), NUMBERS, st.just(False)),
    st.tuples(st.just("policy"), st.sampled_from(POLICIES)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("lose the log")),
)


STRICTER_WHILE_IT_RAN: list[tuple[Any, ...]] = [
    ("accept", 2, 1.0, (0,), False, False),
    ("train", 2, False),
    ("policy", {"max_epsilon": 8.0, "max_delta": 1e-4, "privacy_unit": "person"}),
    ("lose the log",),
    ("train", 2, False),
]
"""A session per image has begun when the policy asks for persons; it is offered again after a restart."""


UNDER_ANOTHER_RULE: list[tuple[Any, ...]] = [
    ("accept", 2, 1.0, (0,), False, True),
    ("policy", {"max_epsilon": 8.0, "max_delta": 4e-5, "composition": "rdp-filter"}),
    ("train", 2, True),
    ("accept", 3, 1.0, (1,), True, False),
    ("accept", 1, 1.0, (0, 1), False, False),
]
"""A session begins, cut off before its line; another one's data overlap its own, under another order."""


def play(clinic: Clinic, history: list[tuple[Any, ...]]) -> None:
    for name, *arguments in history:
        match name:
            case "accept":
                clinic.accept(*arguments)
            case "train":
                clinic.train(*arguments)
            case "policy":
                clinic.write_policy(*arguments)
            case "restart":
                clinic.restart()
            case _:
                clinic.lose_the_log()


def check_honest(clinic: Clinic) -> None:
    """Audit everything, and hold what is committed against the ledger."""
    judgement = clinic.audited()
    assert not wrong(judgement), judgement.findings
    (party,) = judgement.parties
    begun = {one.terms.session.hex() for one in clinic.books.ledger.sessions if one.steps_taken}
    shown = {one.record.session for spend in party.spends for one in spend.counted}
    assert shown <= begun
    for spend in party.spends:
        clinic.delta = spend.delta_of_rule
        counted = clinic.ledger_epsilon(spend.dataset)
        # As the ledger has them: of a session that began just before a power cut no line says that it began.
        orders = {one.terms.rdp_order for one in clinic.begun(spend.dataset)} | {spend.order}
        if len(orders) > 1:
            continue  # a data set that overlaps two others: no session began on both
        assert spend.committed <= counted * 1.01 + 1e-9
        if shown == begun and not clinic.lost_logs:
            assert spend.committed >= counted * (1 - 1e-9)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OPERATIONS, max_size=25), st.sampled_from([1 << 20, 2500]))
@example(history=STRICTER_WHILE_IT_RAN, segment_bytes=1 << 20)
@example(history=UNDER_ANOTHER_RULE, segment_bytes=1 << 20)
def test_an_honest_institution_is_never_found_at_fault(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[Any, ...]], segment_bytes: int
) -> None:
    clinic = Clinic(tmp_path_factory.mktemp("clinic"), segment_bytes)
    play(clinic, history)
    check_honest(clinic)
    assert not wrong(clinic.audited(old_logs=False)), "the last log alone"
    archived = sorted(clinic.folder.glob("log.0*.jsonl"))
    for path in archived:  # then without ever more of its archived parts
        path.unlink()
        assert not wrong(clinic.audited(old_logs=False)), f"without {path.name}"
    clinic.log.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OPERATIONS.filter(lambda one: one[0] != "lose the log"), max_size=25))
def test_what_only_the_ledger_knows_counts_once_a_plan_states_it(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[Any, ...]]
) -> None:
    clinic = Clinic(tmp_path_factory.mktemp("clinic"))
    play(clinic, history)
    clinic.restart()  # the shell offers every session that is on record again
    clinic.write_policy({"max_epsilon": 100.0, "max_delta": 0.01, "session_epsilon": 2.0})
    for number in sorted(clinic.accepted):
        clinic.accept(number, 1.0, (0,), False, False)
    check_honest(clinic)
    (party,) = clinic.audited().parties
    named = {spend.dataset: spend for spend in party.spends}
    for one in clinic.books.ledger.sessions:
        if int.from_bytes(one.terms.session, "big") not in clinic.prepared:
            continue  # refused, so it states nothing
        others = clinic.books.ledger.counted(one)
        if others and len({other.terms.rdp_order for other in (*others, one)}) == 1:
            order = one.terms.rdp_order
            clinic.delta = named[one.dataset.hex()].delta_of_rule
            counted = (
                math.fsum(other.terms.cost.epsilon(epsilon_of) for other in others)
                if order is None
                else planned_rdp_of([other.terms.cost for other in others], order)
                + conversion_cost(order, clinic.delta)
            )
            assert named[one.dataset.hex()].committed >= counted * (1 - 1e-9)
    clinic.log.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OPERATIONS.filter(lambda one: one[0] != "lose the log"), min_size=4, max_size=25), st.data())
def test_a_spend_beyond_what_the_policy_allows_is_found(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    """The same lines under a policy that did not allow them: signed, chained, and found."""
    clinic = Clinic(tmp_path_factory.mktemp("clinic"))
    play(clinic, history)
    clinic.log.close()
    (party,) = clinic.audited().parties
    begun = [spend for spend in party.spends if spend.sessions and math.isfinite(spend.committed)]
    if not begun:
        return
    spend = data.draw(st.sampled_from(begun))
    last = spend.sessions[-1]
    field, most = data.draw(
        st.sampled_from(
            [
                ("max_epsilon", last.plan.epsilon_planned * 0.9),
                ("session_epsilon", last.plan.epsilon_planned * 0.99),
                ("session_delta", DELTA * 0.99),
            ]
        )
    )
    if field == "max_epsilon" and last.rule[0] == "rdp-filter":
        return  # an order that small limits have no budget at is a fault of its own

    def edit(entries: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        for type, body in entries:
            if type == "policy":
                body[field] = most
        return entries

    forge(clinic.log_path, IDENTITY, edit)
    found = wrong(clinic.audited())
    assert any("the policy allows" in one.detail for one in found), (field, found)


class TestOrders:
    """Single histories, each with what is right."""

    def clinic(self, folder: Path, **policy: Any) -> Clinic:
        fields = {"max_epsilon": 4.0, "max_delta": 1e-4, "session_epsilon": 2.0, "composition": "sum"}
        return Clinic(folder, policy=fields | policy)

    def test_one_says_no_and_the_next_session_may_have_everything(self, tmp_path: Path) -> None:
        clinic = self.clinic(tmp_path, max_epsilon=2.0)
        for number in (1, 2):  # the first never begins: somebody else said no
            clinic.accept(number, 2.0, (0, 1), False, False)
        clinic.train(2, False)
        clinic.train(2, False)
        check_honest(clinic)
        (party,) = clinic.audited().parties
        (spend,) = party.spends
        assert [one.record.session for one in spend.counted] == [(2).to_bytes(16, "big").hex()]
        assert 0 <= (spend.margin or -1) < 0.1
        assert [point.session for point in party.curves[spend.dataset]] == [(2).to_bytes(16, "big").hex()] * 2
        assert party.refusal_count == 0

    def test_nothing_that_never_began_is_listed(self, tmp_path: Path) -> None:
        clinic = self.clinic(tmp_path)
        clinic.accept(1, 2.0, (0, 1), False, False)
        (party,) = clinic.audited().parties
        assert party.spends == ()
        assert party.sessions == 1

    def test_two_accepted_one_after_the_other_begin(self, tmp_path: Path) -> None:
        clinic = self.clinic(tmp_path)
        for number in (1, 2):
            clinic.accept(number, 2.0, (0, 1), False, False)
        for number in (2, 1):
            clinic.train(number, False)
        check_honest(clinic)
        assert clinic.audited().parties[0].spends[0].committed > 3.9

    @pytest.mark.parametrize("again", [False, True])
    def test_a_crash_between_reservation_and_line_counts_once(self, tmp_path: Path, again: bool) -> None:
        clinic = self.clinic(tmp_path, max_epsilon=3.0)
        clinic.accept(1, 2.0, (0, 1), False, False)
        clinic.train(1, cut=True)
        clinic.accept(2, 1.0, (0, 1), False, False)
        (spend,) = clinic.audited().parties[0].spends
        assert spend.carried == pytest.approx(epsilon_of_session(2.0)), "the log has no line about it"
        if again:
            clinic.train(1, False)
        clinic.train(2, False)
        check_honest(clinic)
        (spend,) = clinic.audited().parties[0].spends
        both = epsilon_of_session(1.0) + epsilon_of_session(2.0)
        assert spend.committed == pytest.approx(both, rel=1e-2)
        assert bool(spend.carried) is not again

    def test_a_log_that_was_lost_and_found_again_counts_a_session_once(self, tmp_path: Path) -> None:
        clinic = self.clinic(tmp_path, max_epsilon=3.0)
        clinic.accept(1, 2.0, (0, 1), False, False)
        clinic.train(1, False)
        clinic.lose_the_log()
        clinic.accept(1, 2.0, (0, 1), False, False)
        clinic.train(1, False)
        for old_logs in (True, False):
            judgement = clinic.audited(old_logs=old_logs)
            assert not wrong(judgement), judgement.findings
            (spend,) = judgement.parties[0].spends
            assert spend.committed == pytest.approx(epsilon_of_session(2.0), rel=1e-2)
            assert spend.steps == 4

    def test_many_sessions_under_the_filter_and_an_archived_part(self, tmp_path: Path) -> None:
        """Their ε add up to more than the policy allows; their divergences do not."""
        clinic = Clinic(tmp_path, 1 << 14, policy={"max_epsilon": 8.0, "max_delta": 1e-4})
        for number in range(1, 13):
            clinic.accept(number, 1.0, (0, 1), False, False)
            clinic.train(number, False)
            clinic.train(number, False)
        whole = clinic.audited().parties[0].spends[0]
        assert len(whole.counted) == 12
        assert 12 * epsilon_of_session(1.0) > 11 > 8 > whole.committed
        archived = sorted(tmp_path.glob("log.0*.jsonl"))
        assert archived
        for path in archived:
            path.unlink()
        judgement = clinic.audited()
        assert not wrong(judgement), judgement.findings
        (rest,) = judgement.parties[0].spends
        assert (rest.rule, rest.policy, rest.delta_of_rule) == (whole.rule, None, DELTA), (
            "it was in that part"
        )
        shift = conversion_cost(rest.order, whole.delta_of_rule) - conversion_cost(rest.order, DELTA)
        assert rest.committed + shift == pytest.approx(whole.committed, rel=1e-3)


def epsilon_of_session(epsilon: float) -> float:
    plan = plan_session(epsilon, DELTA, RECORDS, 0.5, 2 * ROUNDS)
    return epsilon_of(plan.noise_multiplier, 0.5, 2 * ROUNDS, DELTA)


def test_every_policy_of_these_histories_is_one() -> None:
    assert all(Policy(**fields) for fields in POLICIES)
