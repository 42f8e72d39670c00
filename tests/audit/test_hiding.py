"""Whether a session's sums hide a single institution, from plan, roster and who was in fact in the sums."""

import json
from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.cohorts import ONE_PER_DOMAIN
from fedapt_secure.audit.evidence.hiding import Hiding
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import dossier
from fedapt_secure.audit.report.html import to_html
from fedapt_secure.audit.report.json_answer import to_fields
from tests.audit.harness import Body, Federation, Terms
from tests.audit.report.test_reports import Page, shown
from tests.protocol.federation import make_plan

TWO = ("ink", "chalk")
FOUR = ("ink", "chalk", "print", "scan")


def judged(made: Federation, folder: Path) -> Judgement:
    return audit([made.save(folder)], folder / "roster.json")


@pytest.mark.parametrize(
    ("domains", "plan", "session", "hiding", "alone"),
    [
        (FOUR, {}, {}, Hiding.NO_ALONE, {1, 2, 3, 4}),
        (FOUR, {"keys": 2}, {}, Hiding.YES, set()),
        (FOUR, {"keys": 3}, {}, Hiding.NO_ALONE, {2, 3}),
        (FOUR, {"keys": 1}, {}, Hiding.YES, set()),
        (FOUR, {"method": "promptfl"}, {}, Hiding.YES, set()),
        (TWO, {}, {}, Hiding.YES, set()),
        (TWO, {}, {"absent": {2: "clinic-3"}}, Hiding.NO_ALONE, {1}),
        (TWO, {}, {"participation": ONE_PER_DOMAIN}, Hiding.NO_ALONE, {1, 2, 3, 4}),
        (TWO, {"keys": 1}, {"participation": ONE_PER_DOMAIN}, Hiding.YES, set()),
        (FOUR, {"secure_aggregation": "none"}, {"scheme": "none"}, Hiding.NO_SCHEME, set()),
        (FOUR, {"secure_aggregation": "ckks"}, {"scheme": "ckks"}, Hiding.NO_ALONE, {1, 2, 3, 4}),
    ],
)
def test_it_follows_from_keys_cohorts_and_who_was_there(
    tmp_path: Path,
    domains: tuple[str, ...],
    plan: dict[str, object],
    session: dict[str, object],
    hiding: Hiding,
    alone: set[int],
) -> None:
    made = Federation(4, Terms(aggregation=("masking", "ckks", "none")), domains=len(domains))
    rounds = 9  # enough for each of two institutions of a domain to have its turn
    participation = session.get("participation", "all")
    made_plan = make_plan(domains=domains, rounds=rounds, participation=participation, **plan)
    made.session(rounds=rounds, plan=made_plan, **session)  # type: ignore[arg-type]
    judgement = judged(made, tmp_path)
    assert judgement.findings == ()
    (one,) = judgement.sums
    assert (one.hiding, set(one.alone)) == (hiding, {f"clinic-{number}" for number in alone})


class TestWhatIsNotKnown:
    def test_without_the_coordinators_log(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        folder = made.save(tmp_path)
        (folder / "logs" / f"{COORDINATOR}.jsonl").unlink()
        (one,) = audit([folder], folder / "roster.json").sums
        assert (one.hiding, one.alone, one.verified) == (Hiding.UNKNOWN, (), 3)

    def test_with_another_roster(self, tmp_path: Path) -> None:
        made, other = Federation(4, domains=2), Federation(4)
        made.session(plan=make_plan(domains=FOUR))
        folder = made.save(tmp_path / "made")
        other.save(tmp_path / "other")
        (one,) = audit([folder], tmp_path / "other" / "roster.json").sums
        assert one.hiding is Hiding.UNKNOWN

    def test_a_plan_that_is_not_the_one_that_was_signed(self, tmp_path: Path) -> None:
        """A coordinator that notes fewer keys than there were hides nothing by it."""
        made = Federation(4)
        write = made.logs[COORDINATOR].write

        def fewer_keys(type: str, body: Body) -> None:
            if type == "session_started":
                commitments = body["key_commitments"][:1]
                body = body | {"plan": body["plan"] | {"keys": 1}, "key_commitments": commitments}
            write(type, body)

        made.logs[COORDINATOR].write = fewer_keys  # type: ignore[method-assign]
        made.session(plan=make_plan(domains=FOUR))
        (one,) = judged(made, tmp_path).sums
        assert one.hiding is Hiding.UNKNOWN

    def test_a_plan_that_is_none(self, tmp_path: Path) -> None:
        made = Federation(4)
        write = made.logs[COORDINATOR].write
        made.logs[COORDINATOR].write = lambda type, body: write(  # type: ignore[method-assign]
            type, body | {"plan": {"keys": "many"}} if type == "session_started" else body
        )
        made.session()
        assert judged(made, tmp_path).sums[0].hiding is Hiding.UNKNOWN


@pytest.fixture(scope="module")
def judgement(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    """Sessions of several kinds, and one whose last sum did not come to clinic-2."""
    made = Federation(4, Terms(aggregation=("masking", "none")))
    made.session(1, plan=make_plan(domains=FOUR))
    made.session(2, plan=make_plan(domains=FOUR))
    made.session(3, plan=make_plan(domains=FOUR, keys=2), sums=False)
    made.session(4, scheme="none")
    write = made.logs["clinic-2"].write

    def lose(type: str, body: Body) -> None:
        write(type, body)
        if (type, body.get("status")) == ("round_ended", "aborted"):
            lost = made.sums.unresolved("clinic-2", body["round"], made.names, made.sums.model)
            write("unresolved", lost)

    made.logs["clinic-2"].write = lose  # type: ignore[method-assign]
    made.session(5, aborted=[1, 3])
    return audit([made.save(tmp_path_factory.mktemp("made"))])


ALONE = "hides a single institution: no (alone with its key): clinic-1, clinic-2, clinic-3, clinic-4"
NAMES = "clinic-1, clinic-2, clinic-3, clinic-4"
LOST = f"clinic-2: the sum of round {{0}}, attempt 1 (session {{1}}…, with {NAMES}) did"


class TestReports:
    def test_text(self, judgement: Judgement) -> None:
        sessions = [f"{one.session[:8]}…" for one in judgement.sums]
        text = " ".join(shown(judgement).split())
        assert f"Sessions {sessions[0]}, {sessions[1]}: {ALONE}." in text
        assert f"Session {sessions[2]}: hides a single institution: yes; its institutions did not" in text
        assert f"Session {sessions[3]}: hides a single institution: no (no secure aggregation)" in text
        assert "nothing is claimed about its sums" in text
        assert f"Session {sessions[4]}: hides a single institution: not known from these logs." in text
        short = judgement.sums[4].session[:8]
        assert LOST.format(1, short) + " not come; it went on from a sum" in text
        assert LOST.format(3, short) + " not come, nor any later one" in text
        assert "OPEN clinic-2, clinic-2.jsonl line" in text

    def test_page(self, judgement: Judgement) -> None:
        text = Page(to_html(dossier(judgement))).text
        assert "What the sums hide" in text
        assert ALONE.partition(": ")[2] in text
        assert "not noted yet" in text
        assert text.count("nothing is claimed about its sums") == 1
        short = judgement.sums[4].session[:8]
        assert LOST.format(3, short) in text
        assert text.index("What the sums hide") < text.index("Each party in detail")

    def test_json(self, judgement: Judgement) -> None:
        fields = json.loads(json.dumps(to_fields(judgement), allow_nan=False))["sums"]
        names = [f"clinic-{number}" for number in range(1, 5)]
        assert fields[0] == {
            "session": judgement.sums[0].session,
            "secure_aggregation": "masking",
            "hides_a_single_institution": "no (alone with its key)",
            "alone_with_its_key": names,
            "verified_rounds": 3,
            "did_not_come": [],
        }
        assert fields[2]["verified_rounds"] is None
        assert [one["went_on_later"] for one in fields[4]["did_not_come"]] == [True, False]
        assert fields[4]["did_not_come"][1] == {
            "party": "clinic-2",
            "round": 3,
            "attempt": 1,
            "contributors": names,
            "went_on_later": False,
        }

    def test_the_words_are_explained(self) -> None:
        text = wording.explanation()
        for term in ("Verified sum", "A sum that did not come", "Hides a single institution"):
            assert term in text
