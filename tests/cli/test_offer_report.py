"""What people read before they agree: whose turn it is in which round, and what the noise is planned for."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from fedapt_client.narration import said_of_rounds
from fedapt_client.offer_facts import offer_fields
from fedapt_client.settings import ClientSettings
from fedapt_crypto.secagg.cohorts import EVERYBODY, ONE_PER_DOMAIN
from fedapt_secure.cli.work.offer_report import print_offer
from fedapt_secure.config.policy import Policy
from tests.protocol.federation import Federation

DOMAINS = ("ink", "chalk", "print")


def settings(name: str) -> ClientSettings:
    return ClientSettings(name=name, port=8443, data=Path("data"))


def offered(name: str, participation: str, rounds: int = 6) -> tuple[Federation, dict]:
    federation = Federation(6, domains=DOMAINS, participation=participation, rounds=rounds, local_steps=4)
    return federation, offer_fields(federation.configuration, settings(name), Policy(), "policy.yaml")


def test_a_sampled_session_says_whose_turn_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    federation, fields = offered("clinic-2", ONE_PER_DOMAIN)
    own = federation.configuration.own_rounds("clinic-2")
    assert fields["own_rounds"] == list(own)
    assert fields["privacy"]["steps"] == 4 * max(1, len(own))
    assert (fields["participation"], fields["cohort_size"], fields["threshold"]) == (ONE_PER_DOMAIN, 3, 3)
    print_offer(fields)
    shown = " ".join(capsys.readouterr().out.split())
    assert "participants 6; a round has 3 of them, one of each domain, and needs 3" in shown
    assert f"this institution {said_of_rounds(federation.configuration, 'clinic-2')}" in shown


def test_a_session_of_everybody_says_nothing_of_turns(capsys: pytest.CaptureFixture[str]) -> None:
    _, fields = offered("clinic-2", EVERYBODY)
    assert fields["own_rounds"] == [1, 2, 3, 4, 5, 6]
    assert fields["privacy"]["steps"] == 24
    print_offer(fields)
    shown = capsys.readouterr().out
    assert "participants       6, a round needs 5" in shown
    assert "takes part" not in shown


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (
            {"expected": {"epsilon": 1.0, "records": 50}},
            "stays the untuned CLIP's, for epsilon 1 and 50 records at each institution",
        ),
        ({"prior_weight": 0.25}, "prior weight 0.25 of the finished model stays the untuned CLIP's privacy"),
        (
            {"differential_privacy": False},
            "prior weight 0 of the finished model stays the untuned CLIP's privacy",
        ),
    ],
)
def test_people_read_how_much_stays_untuned(
    capsys: pytest.CaptureFixture[str], plan: dict[str, object], expected: str
) -> None:
    configuration = Federation(3, **plan).configuration  # type: ignore[arg-type]
    fields = offer_fields(configuration, settings("clinic-2"), Policy(), "policy.yaml")
    assert fields["prior_weight"] == configuration.prior_weight
    print_offer(fields)
    assert expected in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "data.csv",
            "path,label,split,subject\na.png,one,train,ada\nb.png,one,train,ada\nc.png,one,test,bea\n",
            "images at most 2 training images, the policy asks for 50; at most 1 persons, the policy asks for"
            " 20. WOULD BE REFUSED aggregation",
        ),
        (
            "data.csv",
            "path,label\n" + "".join(f"{n}.png,one\n" for n in range(50)),
            "images at most 50 training images, the policy asks for 50 aggregation",
        ),
        ("missing.csv", None, "images cannot be read yet: 'fedapt-secure client doctor' says why"),
        ("data.csv", "path,label,subject\n", "; per person"),
        ("data.csv", "path,label\n", "; per image, not per person"),
        ("folder", None, "; per image, not per person"),
        ("missing.csv", None, "per image or per person, as the data will say"),
    ],
)
def test_people_read_what_privacy_counts_and_how_much_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, expected: str
) -> None:
    data = tmp_path / name
    if content is not None:
        data.write_text(content)
    own = settings("clinic-2").model_copy(update={"data": data})
    print_offer(offer_fields(Federation(3).configuration, own, Policy(), "policy.yaml"))
    shown = " ".join(capsys.readouterr().out.split())
    assert expected in shown


@pytest.mark.parametrize(
    ("asked", "expected", "refused"),
    [
        ({}, "epsilon 2 at most, delta 1/(2 x records) and at most 2.5e-06;", None),
        ({"dp_epsilon": 1.0, "dp_delta": 1e-6}, "epsilon 1 at most, delta 1e-06;", None),
        ({"dp_epsilon": 8.0}, "epsilon 8 at most,", "client.yaml asks for dp_epsilon 8 "),
        ({"dp_epsilon": 3.0, "dp_delta": 1e-5}, "", "asks for dp_epsilon 3 and dp_delta 1e-05 "),
    ],
)
def test_people_read_what_it_costs_of_how_much(
    capsys: pytest.CaptureFixture[str], asked: dict, expected: str, refused: str | None
) -> None:
    own = settings("clinic-2").model_copy(update=asked)
    print_offer(
        offer_fields(Federation(3).configuration, own, Policy(minimum_institutions_per_key=1), "policy.yaml")
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert expected in shown
    assert (
        "the policy (policy.yaml) allows one session epsilon 2 and delta 2.5e-06, all sessions on the same"
        " images 8 and 1e-05"
    ) in shown
    assert ("WOULD BE REFUSED" in shown) == (refused is not None)
    assert refused is None or refused in shown


@pytest.mark.parametrize("rounds", [1, 2, 5, 20])
def test_rounds_in_words(rounds: int) -> None:
    """The numbers and runs of numbers in the sentence are the rounds, however they fall."""
    federation = Federation(9, domains=DOMAINS, participation=ONE_PER_DOMAIN, rounds=rounds)
    for name in federation.parties:
        own, said = federation.configuration.own_rounds(name), said_of_rounds(federation.configuration, name)
        if len(own) == rounds:
            assert said == f"takes part in all {rounds} rounds"
        elif not own:
            assert said.startswith(f"takes part in none of the {rounds} rounds: it spends nothing")
        else:
            found = re.fullmatch(
                r"takes part in (\d+) of (\d+) rounds \((.+)\) and sits the others out", said
            )
            assert found is not None
            runs = [[int(end) for end in run.split("-")] for run in found[3].split(", ")]
            assert [n for run in runs for n in range(run[0], run[-1] + 1)] == list(own)
            assert all(after[0] > before[-1] + 1 for before, after in pairwise(runs))
            assert (int(found[1]), int(found[2])) == (len(own), rounds)


@pytest.mark.parametrize(
    ("plan", "needed", "expected"),
    [
        ({}, 2, "hides a single institution: no (alone with its key); we are alone with our key"),
        ({"keys": 1}, 3, "hides a single institution: yes; 3 institutions on our key; the policy asks for 3"),
        ({"secure_aggregation": "none"}, 3, "no (the coordinator sees every update)"),
        (
            {"bundle_for_coordinator": True},
            1,
            "the coordinator knows all keys and may have the finished bundle",
        ),
    ],
)
def test_people_read_what_sums_hide(
    capsys: pytest.CaptureFixture[str], plan: dict[str, object], needed: int, expected: str
) -> None:
    policy = Policy(minimum_institutions_per_key=needed)
    print_offer(
        offer_fields(Federation(3, **plan).configuration, settings("clinic-2"), policy, "policy.yaml")
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert expected in shown
    assert ("WOULD BE REFUSED" in shown) is (not plan)
