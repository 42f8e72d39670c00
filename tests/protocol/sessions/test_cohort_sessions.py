"""Sessions with one institution a domain sampled each round: real machines on both sides, in memory."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedapt_client.session.requirements import Requirements
from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import InvalidInput, PolicyRefused, UnexpectedMessage
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import ONE_PER_DOMAIN
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol import messages as m
from fedapt_server.session.actions import SendTo
from fedapt_server.session.states import State
from tests.protocol.federation import Federation, make_plan
from tests.protocol.test_sessions import ALL, assert_sound
from tests.support.examples import examples

DOMAINS = ("ink", "chalk", "print")


def sampled(n: int = 6, *, domains: tuple[str, ...] = DOMAINS, **plan: object) -> Federation:
    return Federation(n, domains=domains, participation=ONE_PER_DOMAIN, **plan)


def cohorts(federation: Federation) -> list[tuple[str, ...]]:
    configuration = federation.configuration
    return [configuration.round_roster(n + 1).names for n in range(configuration.plan.rounds)]


def one_away_from_some_rounds(rounds: int) -> tuple[Federation, str]:
    """A federation of six and one of them whose turn is the first round and not the last."""
    while True:  # keys are random, so cohorts are
        federation = sampled(6, rounds=rounds)
        first, *_, last = cohorts(federation)
        for name in first:
            if name not in last:
                return federation, name


def sitting_out(federation: Federation, number: int) -> str:
    """One who is not in that round's cohort."""
    return next(name for name in federation.parties if name not in cohorts(federation)[number - 1])


def assert_cohorts_alone(federation: Federation) -> None:
    """Nobody trained, released or counted outside the rounds of the public rule."""
    for body in federation.entries("round_ended"):
        cohort = cohorts(federation)[body["round"] - 1]
        assert {*body["participants"], *body["contributors"], *body["dropped"]} <= set(cohort)
    for name, party in federation.parties.items():
        own = federation.configuration.own_rounds(name)
        assert {number for number, _ in party.joined} <= set(own)
        assert set(party.released) <= set(own)


@pytest.mark.parametrize("scheme", [registry.MASKING, registry.NONE])
def test_every_round_is_its_cohorts(scheme: str) -> None:
    requirements = Requirements(differential_privacy=True, aggregation=(scheme,), minimum_participants=3)
    federation = sampled(7, rounds=6, secure_aggregation=scheme, requirements=requirements)
    federation.run()
    assert_cohorts_alone(federation)
    rounds = federation.entries("round_ended")
    assert [tuple(body["contributors"]) for body in rounds] == cohorts(federation)
    assert len(set(cohorts(federation))) > 1
    assert all(body["status"] == "completed" and not body["dropped"] for body in rounds)
    assert federation.entries("late") + federation.entries("not_waiting_for") == []
    models = {party.concluded.model.tobytes() for party in federation.parties.values()}
    assert_sound(federation)
    assert models == {federation.coordinator.progress.model.tobytes()}
    assert not any(party.refused for party in federation.parties.values())


def test_a_session_of_everybody_is_what_it_was() -> None:
    configuration = Federation(6, domains=DOMAINS).configuration
    assert configuration.round_roster(2) is configuration.roster
    assert configuration.cohort_size == 6
    context = configuration.round_context(1, 1, bytes(32), None)
    assert (context.participants, context.roster_hash) == (6, configuration.roster.hash)
    assert configuration.planned_steps("clinic-1") == configuration.plan.rounds


def test_threshold_and_context_are_the_cohorts() -> None:
    configuration = sampled(9).configuration
    context = configuration.round_context(2, 1, bytes(32), None)
    assert (context.participants, context.threshold) == (3, 3)
    assert context.roster_hash == configuration.round_roster(2).hash != configuration.roster.hash
    assert context.hash != configuration.round_context(3, 1, bytes(32), None).hash


def test_noise_is_planned_for_the_own_rounds() -> None:
    configuration = sampled(9, rounds=30, local_steps=4).configuration
    own = {name: len(configuration.own_rounds(name)) for name in configuration.roster.names}
    assert sum(own.values()) == 30 * 3
    assert {name: configuration.planned_steps(name) for name in own} == {n: 4 * own[n] for n in own}


def test_an_institution_without_a_round_waits_and_gets_the_model() -> None:
    federation = sampled(9, rounds=1)
    idle = sitting_out(federation, 1)
    assert federation.configuration.own_rounds(idle) == ()
    assert federation.configuration.planned_steps(idle) == 1  # a plan that is never spent
    federation.run()
    party = federation.parties[idle]
    assert (party.joined, party.released) == ([], [])
    assert party.concluded is not None
    assert len(federation.entries("session_ended")[0]["done"]) == 9


@pytest.mark.parametrize("restarts", [False, True])
def test_one_who_sits_out_is_killed_and_nobody_waits(restarts: bool) -> None:
    """It dies in the middle of a round that is not its own, and is there for its own later ones."""
    federation = sampled(6, rounds=6)
    victim = next(
        name
        for name in federation.parties
        if 1 not in federation.configuration.own_rounds(name) and federation.configuration.own_rounds(name)
    )
    real, killed = federation.coordinator.receive, []

    def receive(name: str, data: bytes) -> list:
        if not killed and federation.entries("phase"):
            killed.append(victim)
            if restarts:
                federation.parties[victim].machine = federation.machine(victim)
            federation.disconnect(victim)
            federation._to_reconnect.append(victim)
        return real(name, data)

    federation.coordinator.receive = receive
    federation.run()
    assert killed
    assert_sound(federation)
    assert_cohorts_alone(federation)
    assert all(body["status"] == "completed" for body in federation.entries("round_ended"))
    assert all(body["dropped"] == [] for body in federation.entries("round_ended"))
    assert federation.entries("late") == []
    own = federation.configuration.own_rounds(victim)
    assert tuple(number for number, _ in federation.parties[victim].joined) == own


def test_one_who_sits_out_is_not_waited_for() -> None:
    federation = sampled(6, rounds=1)
    absent = sitting_out(federation, 1)
    connect = federation.connect
    federation.connect = lambda name: None if name == absent else connect(name)
    federation.run()
    assert federation.entries("not_waiting_for") == []
    assert [body["status"] for body in federation.entries("round_ended")] == ["completed"]


def test_a_round_whose_cohort_cannot_be_reached_is_left_out() -> None:
    """One of six never comes: three domains need all three, so its own rounds are left out, and no others."""
    federation, absent = one_away_from_some_rounds(8)
    own = federation.configuration.own_rounds(absent)
    connect = federation.connect
    federation.connect = lambda name: None if name == absent else connect(name)
    federation.run()
    assert_sound(federation)
    rounds = federation.entries("round_ended")
    assert [body["round"] for body in rounds] == list(range(1, 9))
    assert {body["round"] for body in rounds if body["status"] == "aborted"} == set(own)
    for body in rounds:
        if body["status"] == "aborted":
            assert body["detail"] == "2 institutions of the round's cohort were there, 3 are needed"
            assert body["participants"] == body["contributors"] == body["dropped"] == []
    assert federation.coordinator.progress.completed_rounds == 8 - len(own)


def test_the_session_waits_while_too_few_are_there_at_all() -> None:
    """Leaving out one round after the other would end the session for nothing: it waits, like any other."""
    federation = sampled(6, rounds=4)
    federation._server(federation.coordinator.start())
    for name in ("clinic-1", "clinic-2"):
        federation.connect(name)
    while federation._to_institutions:
        federation._deliver(*federation._to_institutions.popleft())
    for _ in range(20):
        federation._server(federation.coordinator.timeout())
    assert federation.coordinator.state is State.GATHERING
    assert federation.entries("round_ended") == []
    for name in list(federation.parties)[2:]:
        federation.connect(name)
    federation.play()
    assert_sound(federation)
    assert all(body["status"] == "completed" for body in federation.entries("round_ended"))


def test_coming_and_going_does_not_put_off_the_leaving_out() -> None:
    federation = sampled(6, rounds=8)
    absent = cohorts(federation)[0][0]
    federation._server(federation.coordinator.start())
    others = [name for name in federation.parties if name != absent]
    for name in others:
        federation.connect(name)
    while federation._to_institutions:
        federation._deliver(*federation._to_institutions.popleft())
    assert federation.timer is not None
    federation.timer = None  # it is running; from here on nothing may set it anew
    for _ in range(5):
        federation.disconnect(others[-1])
        federation.connect(others[-1])
        while federation._to_institutions:
            federation._deliver(*federation._to_institutions.popleft())
        assert federation.timer is None


def test_one_who_leaves_for_good_costs_its_own_rounds_alone() -> None:
    federation, quitter = one_away_from_some_rounds(8)
    federation.parties[quitter].budget_rounds = 0
    own = set(federation.configuration.own_rounds(quitter))
    federation.run()
    assert_sound(federation)
    rounds = federation.entries("round_ended")
    assert {b["round"] for b in rounds if b["status"] == "completed"} == set(range(1, 9)) - own
    assert federation.entries("cannot_continue") == []
    left_out = [b["detail"] for b in rounds if b["round"] in own and not b["participants"]]
    assert len(left_out) == len(own) - 1  # the first was begun, and given up
    assert set(left_out) <= {"too few institutions of the round's cohort remain: 3 are needed"}


def test_a_domain_without_institutions_ends_the_session() -> None:
    federation = sampled(5, rounds=4)  # clinic-3 alone in its domain
    federation.parties["clinic-3"].budget_rounds = 0
    federation.run()
    assert federation.ended
    assert "3 of one round's cohort are needed" in federation.entries("cannot_continue")[0]["reason"]
    assert federation.coordinator.progress.completed_rounds == 0


@pytest.mark.parametrize("phase", ALL)
def test_one_of_a_larger_cohort_vanishes(phase: Phase) -> None:
    federation = sampled(10, domains=("ink", "chalk", "print", "scan", "pencil"), rounds=4)
    victim = cohorts(federation)[1][2]
    federation.parties[victim].vanish_at = {(2, phase)}
    federation.run()
    assert_sound(federation)
    assert_cohorts_alone(federation)
    second = federation.entries("round_ended")[1]
    assert (second["status"], second["dropped"]) == ("completed", [victim])


@settings(max_examples=examples(6, 18), deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"clinic-{i}" for i in range(1, 8)]),
        st.sets(st.tuples(st.integers(1, 4), st.sampled_from(ALL)), max_size=3),
    ),
    st.booleans(),
)
def test_whoever_vanishes_whenever(vanish: dict[str, set[tuple[int, Phase]]], restarts: bool) -> None:
    federation = sampled(7, rounds=4)
    for name, moments in vanish.items():
        federation.parties[name].vanish_at = set(moments)
        federation.parties[name].restarts = restarts
    federation.run()
    assert_sound(federation)
    assert_cohorts_alone(federation)


def ready(federation: Federation, name: str) -> None:
    """Bring one institution to where it waits for a round."""
    federation._server(federation.coordinator.start())
    federation.connect(name)
    while federation._to_institutions:
        federation._deliver(*federation._to_institutions.popleft())


@pytest.mark.parametrize("number", [1, 99])
def test_a_round_that_is_not_ours_is_refused_before_any_image_is_touched(number: int) -> None:
    federation = sampled(6)
    name = sitting_out(federation, 1)
    ready(federation, name)
    start = m.RoundStart(
        round=number,
        attempt=1,
        model_id=federation.coordinator.progress.model_id,
        participants=parties.pack(range(3)),
    )
    said = "not ours by the session's rule" if number == 1 else "the session has no round 99"
    with pytest.raises(UnexpectedMessage, match=said):
        federation.parties[name].machine.receive(start.to_bytes())
    assert federation.parties[name].joined == []


def test_a_payload_from_outside_the_cohort_is_refused() -> None:
    federation = sampled(6, rounds=1)
    stranger, real, sent = sitting_out(federation, 1), federation.coordinator.receive, []

    def receive(name: str, data: bytes) -> list:
        actions = real(name, data)
        if federation.entries("round_started") and not sent:
            message = m.Aggregation(round=1, attempt=1, phase=Phase.ADVERTISE.value, payload=b"x")
            sent.extend(real(stranger, message.to_bytes()))
        return actions

    federation.coordinator.receive = receive
    federation.run()
    (refused,) = sent
    assert refused.body["detail"].endswith("sent a payload of a round that it takes no part in")
    assert_sound(federation)
    assert federation.entries("round_ended")[0]["status"] == "completed"


class GrowingStricter(Federation):
    """Some want more institutions than a cohort is, from their first round's beginning on."""

    stricter: frozenset[str] = frozenset()

    def _deliver(self, name: str, data: bytes) -> None:
        if name in self.stricter and b"round start" in data:
            machine = self.parties[name].machine
            machine.requirements = replace(machine.requirements, minimum_participants=5)
        super()._deliver(name, data)


def test_a_round_with_one_who_wants_more_is_left_out_and_the_others_take_place() -> None:
    """The first round is given up after an attempt, the second, also with it, without one."""
    both: set[str] = set()
    while not both:  # keys are random, so cohorts are
        federation = GrowingStricter(6, domains=DOMAINS, participation=ONE_PER_DOMAIN, rounds=8)
        first, second, *_ = cohorts(federation)
        both = {*first} & {*second}
    name = both.pop()
    federation.stricter = frozenset({name})
    federation.run()
    assert federation.ended
    theirs = [number for number, cohort in enumerate(cohorts(federation), 1) if name not in cohort]
    done = [body["round"] for body in federation.entries("round_ended") if body["status"] == "completed"]
    assert done == theirs
    assert len(federation.entries("declined")) == 1


def test_where_all_want_more_the_session_waits_for_them_and_ends() -> None:
    federation = GrowingStricter(6, domains=DOMAINS, participation=ONE_PER_DOMAIN, rounds=3)
    federation.stricter = frozenset(federation.parties)
    federation.run()
    waiting = federation.entries("waiting_for_return")[0]["names"]
    assert set(waiting) <= {body["name"] for body in federation.entries("declined")}
    assert waiting
    assert federation.ended
    assert not federation.coordinator.progress.completed_rounds
    [stopped] = federation.entries("cannot_continue")
    assert "too few for" in stopped["reason"]


def test_too_small_a_cohort_is_refused_by_policy() -> None:
    configuration = sampled(9).configuration
    strict = Requirements(differential_privacy=True, aggregation=(registry.MASKING,), minimum_participants=4)
    with pytest.raises(PolicyRefused, match="a round of the session has 3 institutions where 4 are required"):
        strict.check(configuration, configuration.roster, configuration.roster.names[0])


def test_too_few_domains_are_refused() -> None:
    with pytest.raises(InvalidInput, match="set participation to all"):
        sampled(6, domains=("ink", "chalk")).configuration.check_scheme()


def test_ckks_does_not_know_cohorts() -> None:
    with pytest.raises(ValidationError, match="rounds belong to the whole roster: choose masking"):
        make_plan(secure_aggregation=registry.CKKS, participation=ONE_PER_DOMAIN)


def is_start(data: bytes) -> bool:
    message = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=m.MAX_FRAME_BYTES)
    return isinstance(message, m.RoundStart)


def test_only_the_cohort_is_told_to_start() -> None:
    federation = sampled(6, rounds=5)
    real, started = federation._server, []

    def server(todo: list) -> None:
        for action in todo:
            if isinstance(action, SendTo) and is_start(action.data):
                started.append(action.name)
        real(todo)

    federation._server = server
    federation.run()
    assert sorted(started) == sorted(name for cohort in cohorts(federation) for name in cohort)
