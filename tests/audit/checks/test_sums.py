"""Logs in which one thing about a round's sum or a model is not as it has to be: each is found by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.findings import Kind, Verdict
from fedapt_secure.audit.judgement import Judgement, audit
from tests.audit.harness import Body, Federation, Terms, digest
from tests.protocol.federation import make_plan

VICTIM = "clinic-2"
Lines = list[tuple[str, Body]]
Change = Callable[[str, Body], Lines]


@pytest.fixture
def made() -> Federation:
    return Federation(3, Terms(aggregation=("masking", "ckks", "none")))


def change(made: Federation, party: str, edit: Change) -> None:
    """Have a party write other lines than it should, from here on; they are signed, chained and witnessed."""
    write = made.logs[party].write

    def changed(type: str, body: Body) -> None:
        for one in edit(type, body):
            write(*one)

    made.logs[party].write = changed  # type: ignore[method-assign]


def change_line(made: Federation, party: str, kind: str, number: int, **fields: Any) -> None:
    """Have a party write other fields in the line of one round."""

    def edit(type: str, body: Body) -> Lines:
        return [(type, body | fields if (type, body.get("round")) == (kind, number) else body)]

    change(made, party, edit)


def leave_out(made: Federation, party: str, *lines: tuple[str, int | None]) -> None:
    change(made, party, lambda type, body: [] if (type, body.get("round")) in lines else [(type, body)])


def add_after(
    made: Federation, party: str, kind: str, number: int, *lines: tuple[str, Callable[[], Body]]
) -> None:
    """Have a party write more lines after that of one round; bodies are made when they are due."""

    def edit(type: str, body: Body) -> Lines:
        due = (type, body.get("round")) == (kind, number)
        return [(type, body), *((one, make()) for one, make in lines if due)]

    change(made, party, edit)


def restated(made: Federation, party: str, number: int, **fields: Any) -> None:
    """Have a party state another sum of a round, under its own signature."""

    def edit(type: str, body: Body) -> Lines:
        if (type, body.get("round")) != ("verified_sum", number):
            return [(type, body)]
        before, after = bytes.fromhex(body["model_before"]), bytes.fromhex(body["model"])
        return [(type, made.sums.statement(party, number, body["contributors"], before, after, **fields))]

    change(made, party, edit)


def judged(made: Federation, folder: Path, *, only: str | None = None) -> Judgement:
    made.save(folder)
    return audit([folder / "logs" / f"{only}.jsonl" if only else folder], folder / "roster.json")


def found(judgement: Judgement) -> set[tuple[str, Kind]]:
    return {(one.party, one.kind) for one in judgement.findings}


class TestHonest:
    @pytest.mark.parametrize("scheme", ["masking", "ckks", "none"])
    def test_every_scheme(self, made: Federation, tmp_path: Path, scheme: str) -> None:
        made.session(scheme=scheme)
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, judgement.findings) == (Verdict.VERIFIED, ())
        assert judgement.sums[0].verified == 3

    def test_logs_of_before_hold_nothing_of_it(self, made: Federation, tmp_path: Path) -> None:
        made.session(sums=False)
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, judgement.findings) == (Verdict.VERIFIED, ())
        assert judgement.sums[0].verified is None

    def test_with_a_plan_the_first_model_is_computed(self, made: Federation, tmp_path: Path) -> None:
        made.session(plan=make_plan(domains=("a", "b", "c")))
        assert judged(made, tmp_path).findings == ()

    def test_who_was_away_catches_up(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(1, 4, absent={2: "clinic-3", 4: VICTIM}, aborted=[3])
        assert judged(made, tmp_path).findings == ()
        assert b'"caught_up"' in (tmp_path / "logs" / "clinic-3.jsonl").read_bytes()

    def test_a_line_that_is_there_twice(self, made: Federation, tmp_path: Path) -> None:
        change(made, VICTIM, lambda type, body: [(type, body)] * (1 + (type == "verified_sum")))
        made.session()
        assert judged(made, tmp_path).findings == ()

    def test_a_crash_between_a_model_and_its_line(self, made: Federation, tmp_path: Path) -> None:
        """Then no end of the round stands there either."""
        leave_out(made, VICTIM, ("verified_sum", 2), ("round_ended", 2))
        made.session()
        assert judged(made, tmp_path).findings == ()

    def test_who_left_before_the_transcript_and_caught_up(self, made: Federation, tmp_path: Path) -> None:
        """Its update is in the sum, and it was late for what came after."""

        def caught() -> Body:
            model, session = digest("model", made.sums.session, 2).hex(), made.sums.session.hex()
            return {"session": session, "round": 2, "model": model, "stated_by": ["clinic-1", "clinic-3"]}

        add_after(made, VICTIM, "round_ended", 2, ("caught_up", caught))
        change_line(made, VICTIM, "round_ended", 2, transcript=None)
        leave_out(made, VICTIM, ("verified_sum", 2))
        made.session()
        assert judged(made, tmp_path).findings == ()

    def test_who_refused_a_sum_and_caught_up(self, made: Federation, tmp_path: Path) -> None:
        def refusal() -> Body:
            return {
                "session": made.sums.session.hex(),
                "round": 2,
                "rule": None,
                "error": "SumCheckFailed",
                "detail": "the sum does not hold",
            }

        def caught() -> Body:
            model = digest("model", made.sums.session, 2).hex()
            session = made.sums.session.hex()
            return {"session": session, "round": 2, "model": model, "stated_by": ["clinic-1", "clinic-3"]}

        add_after(made, VICTIM, "round_ended", 2, ("refused", refusal), ("caught_up", caught))
        leave_out(made, VICTIM, ("verified_sum", 2))
        made.session()
        assert judged(made, tmp_path).findings == ()


class TestOneSumARound:
    @pytest.mark.parametrize(
        "field", ["sum_hash", "sum_tag", "transcript", "model_after", "model_before", "attempt"]
    )
    def test_another_than_the_others(self, made: Federation, tmp_path: Path, field: str) -> None:
        other = {"sum_tag": bytes(8), "attempt": 2}.get(field, bytes(32))
        restated(made, VICTIM, 2, **{field: other})
        made.session()
        judgement = judged(made, tmp_path)
        assert judgement.verdict is Verdict.VIOLATED
        assert (VICTIM, Kind.SUMS_DIFFER) in found(judgement)
        assert {party for party, _ in found(judgement)} == {VICTIM}

    def test_two_institutions_and_nobody_knows_who_is_right(self, tmp_path: Path) -> None:
        made = Federation(2)
        restated(made, VICTIM, 2, sum_hash=bytes(32))
        made.session()
        expected = {("clinic-1", Kind.SUMS_DIFFER), (VICTIM, Kind.SUMS_DIFFER)}
        assert found(judged(made, tmp_path)) == expected

    def test_two_of_one_institution(self, made: Federation, tmp_path: Path) -> None:
        def second() -> Body:
            before, after = digest("model", made.sums.session, 1), digest("model", made.sums.session, 2)
            return made.sums.statement(VICTIM, 2, made.names, before, after, sum_hash=bytes(32))

        add_after(made, VICTIM, "verified_sum", 2, ("verified_sum", second))
        made.session()
        judgement = judged(made, tmp_path)
        assert (VICTIM, Kind.SUMS_DIFFER) in found(judgement)
        assert any("two different sums" in one.detail for one in judgement.findings)
        alone = judged(made, tmp_path, only=VICTIM)
        assert (VICTIM, Kind.SUMS_DIFFER) in found(alone)

    def test_an_institutions_own_account(self, made: Federation, tmp_path: Path) -> None:
        """It notes another transcript at the round's end than it has stated with the sum."""
        change_line(made, VICTIM, "round_ended", 2, transcript="00" * 32)
        made.session()
        judgement = judged(made, tmp_path, only=VICTIM)
        assert (VICTIM, Kind.SUMS_DIFFER) in found(judgement)

    @pytest.mark.parametrize(
        ("field", "value"), [("model", "00" * 32), ("contributors", ["clinic-1", "clinic-3"])]
    )
    def test_the_coordinators_account(
        self, made: Federation, tmp_path: Path, field: str, value: object
    ) -> None:
        change_line(made, COORDINATOR, "round_ended", 2, **{field: value})
        made.session()
        judgement = judged(made, tmp_path)
        assert (COORDINATOR, Kind.SUMS_DIFFER) in found(judgement)
        assert not any(kind is Kind.SUMS_DIFFER for party, kind in found(judgement) if party != COORDINATOR)

    def test_another_model_to_catch_up_with(self, tmp_path: Path) -> None:
        made = Federation(4)
        change_line(made, "clinic-3", "caught_up", 2, model="00" * 32)
        made.session(1, 3, absent={2: "clinic-3"})
        assert ("clinic-3", Kind.SUMS_DIFFER) in found(judged(made, tmp_path))

    def test_called_aborted_after_it_was_given_out(self, made: Federation, tmp_path: Path) -> None:
        def verified() -> Body:
            return made.sums.statement("clinic-1", 3, made.names, made.sums.model, bytes(32))

        def refused() -> Body:
            return {"name": VICTIM, "round": 3, "attempt": 1, "detail": "sum check failed"}

        add_after(made, "clinic-1", "released", 3, ("verified_sum", verified))
        add_after(made, COORDINATOR, "phase", 3, ("sum_refused", refused))
        made.session(aborted=[3], close=False)
        judgement = judged(made, tmp_path)
        assert judgement.verdict is Verdict.VIOLATED
        (finding,) = [one for one in judgement.findings if one.kind is Kind.CALLED_ABORTED]
        assert finding.party == COORDINATOR
        assert "clinic-1 verified it (refused by clinic-2)" in finding.detail
        assert judgement.parties[0].refusals[0].detail == "clinic-2 did not accept the sum: sum check failed"
        alone = judged(made, tmp_path, only="clinic-1")
        assert alone.verdict is Verdict.VIOLATED
        assert ("clinic-1", Kind.CALLED_ABORTED) in found(alone)


class TestEveryContributorVerifies:
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_a_statement_that_is_not_there(self, made: Federation, tmp_path: Path, number: int) -> None:
        leave_out(made, VICTIM, ("verified_sum", number))
        made.session()
        judgement = judged(made, tmp_path)
        follows = Kind.FINAL_MODEL if number == 3 else Kind.MODEL
        expected = {(VICTIM, Kind.NOT_VERIFIED), (VICTIM, follows)}
        assert found(judgement) == (expected if number > 1 else {(VICTIM, Kind.NOT_VERIFIED)})

    def test_all_lines_left_out(self, made: Federation, tmp_path: Path) -> None:
        """A log that looks like one of before, beside others that do not."""
        leave_out(made, VICTIM, *(("verified_sum", n) for n in (1, 2, 3)), ("group", None))
        made.session()
        assert found(judged(made, tmp_path)) == {
            (VICTIM, Kind.NOT_VERIFIED),
            (VICTIM, Kind.FINAL_MODEL),
            (VICTIM, Kind.GROUP),
        }

    @pytest.mark.parametrize(("scheme", "tag"), [("masking", ""), ("ckks", ""), ("none", "00" * 8)])
    def test_the_tag_that_the_scheme_has(
        self, made: Federation, tmp_path: Path, scheme: str, tag: str
    ) -> None:
        for name in made.names:
            restated(made, name, 2, sum_tag=bytes.fromhex(tag))
        made.session(scheme=scheme)
        assert found(judged(made, tmp_path)) == {(name, Kind.NOT_VERIFIED) for name in made.names}

    def test_a_signature_of_somebody_else(self, made: Federation, tmp_path: Path) -> None:
        def edit(type: str, body: Body) -> Lines:
            if (type, body.get("round")) != ("verified_sum", 2):
                return [(type, body)]
            models = bytes.fromhex(body["model_before"]), bytes.fromhex(body["model"])
            other = made.sums.statement("clinic-1", 2, made.names, *models)
            return [(type, body | {"signature": other["signature"]})]

        change(made, VICTIM, edit)
        made.session()
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, found(judgement)) == (Verdict.TAMPERED, {(VICTIM, Kind.STATEMENT)})

    def test_a_signature_about_another_session(self, made: Federation, tmp_path: Path) -> None:
        restated(made, VICTIM, 2, configuration_hash=bytes(32))
        made.session()
        assert found(judged(made, tmp_path)) == {(VICTIM, Kind.STATEMENT)}


class TestOneModelAfterAnother:
    def test_a_chain_that_breaks_alike_for_all(self, made: Federation, tmp_path: Path) -> None:
        """All institutions go on from another model than the one that they have verified."""
        for name in made.names:
            restated(made, name, 2, model_before=bytes(32))
        made.session()
        judgement = judged(made, tmp_path)
        assert judgement.verdict is Verdict.VIOLATED
        assert found(judgement) == {(name, Kind.MODEL) for name in made.names}
        assert "the one verified in round 1" in judgement.findings[0].detail

    def test_another_first_model_than_the_plans(self, made: Federation, tmp_path: Path) -> None:
        for name in made.names:
            restated(made, name, 1, model_before=bytes(32))
        made.session(plan=make_plan(domains=("a", "b", "c")))
        judgement = judged(made, tmp_path)
        assert found(judgement) == {(name, Kind.MODEL) for name in made.names}
        assert "the session's first" in judgement.findings[0].detail

    def test_an_older_model_after_a_newer_one(self, made: Federation, tmp_path: Path) -> None:
        def older() -> Body:
            model, session = digest("model", made.sums.session, 1).hex(), made.sums.session.hex()
            return {"session": session, "round": 1, "model": model, "stated_by": ["clinic-1"]}

        add_after(made, VICTIM, "verified_sum", 3, ("caught_up", older))
        made.session()
        assert (VICTIM, Kind.MODEL) in found(judged(made, tmp_path))

    def test_a_finished_model_that_nobody_verified(self, made: Federation, tmp_path: Path) -> None:
        change(
            made,
            VICTIM,
            lambda type, body: [(type, body | {"model": "00" * 32} if type == "session_ended" else body)],
        )
        made.session()
        assert found(judged(made, tmp_path)) == {(VICTIM, Kind.FINAL_MODEL)}

    def test_a_close_record_of_another_model(self, made: Federation, tmp_path: Path) -> None:
        def swap(type: str, body: Body) -> Lines:
            if (type, body.get("round")) == ("witnessed", 4):  # the last line before the close
                made.sums.model = bytes(32)
            return [(type, body)]

        change(made, "clinic-3", swap)
        made.session()
        judgement = judged(made, tmp_path)
        assert found(judgement) == {(name, Kind.FINAL_MODEL) for name in made.parties}


class TestGroupSecret:
    def test_another_one(self, made: Federation, tmp_path: Path) -> None:
        change_line(made, VICTIM, "group", None, commitment="00" * 32)  # type: ignore[arg-type]
        made.session()
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, found(judgement)) == (Verdict.VIOLATED, {(VICTIM, Kind.GROUP)})

    def test_two_in_one_log(self, made: Federation, tmp_path: Path) -> None:
        def twice(type: str, body: Body) -> Lines:
            second = [(type, body | {"commitment": "00" * 32})] if type == "group" else []
            return [(type, body), *second]

        change(made, VICTIM, twice)
        made.session()
        assert found(judged(made, tmp_path)) == {(VICTIM, Kind.GROUP)}
        assert found(judged(made, tmp_path, only=VICTIM)) == {(VICTIM, Kind.GROUP)}

    def test_none_where_the_others_have_one(self, made: Federation, tmp_path: Path) -> None:
        leave_out(made, VICTIM, ("group", None))
        made.session()
        assert found(judged(made, tmp_path)) == {(VICTIM, Kind.GROUP)}


class TestSumsThatDidNotCome:
    @staticmethod
    def lose(made: Federation, number: int, survivors: tuple[str, ...] | None = None) -> None:
        """A round ends without a sum for an institution that has revealed shares."""

        def unresolved() -> Body:
            return made.sums.unresolved(VICTIM, number, survivors or made.names, made.sums.model)

        add_after(made, VICTIM, "round_ended", number, ("unresolved", unresolved))

    def test_the_last_one_leaves_it_open(self, made: Federation, tmp_path: Path) -> None:
        self.lose(made, 3)
        made.session(aborted=[3])
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, found(judgement)) == (Verdict.OPEN, {(VICTIM, Kind.UNRESOLVED)})
        (waiting,) = judgement.sums[0].waiting
        assert (waiting.party, waiting.round, waiting.survivors) == (VICTIM, 3, made.names)
        assert not waiting.settled

    def test_an_earlier_one_is_shown_and_nothing_is_wrong(self, made: Federation, tmp_path: Path) -> None:
        self.lose(made, 2)
        made.session(aborted=[2])
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, judgement.findings) == (Verdict.VERIFIED, ())
        assert judgement.sums[0].waiting[0].settled

    def test_another_set_on_the_same_model(self, made: Federation, tmp_path: Path) -> None:
        """The difference of the two sums is the update of whoever is in one of them only."""
        self.lose(made, 2, ("clinic-1", VICTIM))
        made.session(aborted=[2])
        judgement = judged(made, tmp_path)
        assert (judgement.verdict, found(judgement)) == (Verdict.VIOLATED, {(VICTIM, Kind.SECOND_SUM)})
        assert found(judged(made, tmp_path, only=VICTIM)) == {(VICTIM, Kind.SECOND_SUM)}

    def test_a_set_without_the_institution_is_not_its_doing(self, made: Federation, tmp_path: Path) -> None:
        """It was away, and takes a sum that the others made on the model where it waits for one."""
        self.lose(made, 2)
        leave_out(made, VICTIM, ("caught_up", 3))
        made.session(aborted=[2], absent={3: VICTIM}, close=False)
        others = ("clinic-1", "clinic-3")
        before, after = digest("model", made.sums.session, 1), digest("model", made.sums.session, 3)
        late = made.sums.statement(VICTIM, 3, others, before, after)
        made.logs[VICTIM].write("verified_sum", late)
        assert {kind for _, kind in found(judged(made, tmp_path))} == {Kind.NOT_CLOSED}
