"""`fedapt-secure client ledger` on real ledgers: figures, events, export, and clear refusals."""

import json
from pathlib import Path

import pytest

from fedapt_client.books.fingerprints import KEY_FILE
from fedapt_secure.audit.checks.renyi import rdp_epsilon
from fedapt_secure.cli.app import run
from fedapt_secure.config.policy import Policy
from fedapt_secure.config.settings import write_yaml
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.privacy.composition import Allowance, planned_rdp
from fedapt_secure.process.exit_status import ExitStatus
from tests.client.books.ledgers import MINE, OTHER, context, images, open_ledger, terms

SIGMA = {"noise_multiplier": 3.0, "sample_rate": 0.5, "max_steps": 10, "delta": 1e-6}
THIRD = b"\x03" * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger with two sessions on one data set, one on another, and one that never began."""
    ledger = open_ledger(tmp_path / "ledger.sqlite")
    for session, shown in ((MINE, (1, 2)), (OTHER, (2, 3)), (THIRD, (8, 9))):
        ledger.record_plan(terms(session, **SIGMA), images(*shown))
        ledger.reserve(session, 1, 4)
    ledger.release(context(1))
    ledger.record_plan(terms(b"\x04" * 16, **SIGMA), images(8, 9))
    write_yaml(tmp_path / "policy.yaml", Policy(max_epsilon=5.0, max_delta=1e-5), comment="Ours.")
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert run(["client", "ledger", *map(str, arguments)]) == ExitStatus.DONE
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_show_adds_up_what_began(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(answer(capsys, "show", "--dir", folder, "--json"))
    assert shown["policy"]["max_epsilon"] == 5.0
    assert shown["policy_source"] == str(folder / "policy.yaml")
    two, one = shown["datasets"]
    each = epsilon_of(3.0, 0.5, 10, 1e-6)
    assert two["epsilon"] == pytest.approx(2 * each)
    assert two["epsilon_remaining"] == pytest.approx(5.0 - 2 * each)
    assert (two["delta"], two["sessions"], two["sessions_not_begun"]) == (2e-6, 2, 0)
    assert one["epsilon"] == pytest.approx(each)
    assert (one["sessions"], one["sessions_not_begun"]) == (1, 1)
    assert 0 < one["pld"]["epsilon"] < two["pld"]["epsilon"] < two["epsilon"]
    assert two["private"]


def test_show_for_people(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = " ".join(answer(capsys, "show", "--dir", folder).split())
    for word in (
        "ε at most 5 and δ at most 1e-05 for each data set over all sessions",
        "one session: ε at most 1.25 and δ at most 2.5e-06",
        "rule for new data sets: Rényi filter of order",
        "│ sum │",
        "per image, not per person",
        "PLD",
    ):
        assert word in out


def test_show_under_the_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """Each data set by the rule that its first session fixed, whatever the policy is for new ones."""
    monkeypatch.setenv("COLUMNS", "300")
    policy = Policy(max_epsilon=5.0)
    write_yaml(tmp_path / "policy.yaml", policy, comment="Ours.")
    ledger = open_ledger(tmp_path / "ledger.sqlite")
    rule = {"composition": "rdp-filter", "rdp_order": 6.0}
    for session, shown, fixed in ((MINE, 1, rule), (OTHER, 1, rule), (THIRD, 2, {}), (b"4" * 16, 3, rule)):
        ledger.record_plan(terms(session, **SIGMA, **fixed), images(shown))
        if shown < 3:
            ledger.reserve(session, 1, 4)
    two, by_sum, none = json.loads(answer(capsys, "show", "--dir", tmp_path, "--json"))["datasets"]
    assert (two["composition"], by_sum["composition"], none["composition"]) == (
        "rdp-filter",
        "sum",
        "rdp-filter",
    )
    filtered = two["rdp_filter"]
    assert filtered["order"] == 6.0
    assert filtered["budget"] == pytest.approx(Allowance(5.0, 1e-5, "rdp-filter", 6.0).rdp_budget)
    assert filtered["spent"] == pytest.approx(2 * planned_rdp(terms(**SIGMA).cost, 6.0))
    assert two["epsilon_counted"] == pytest.approx(rdp_epsilon(filtered["spent"], 6.0, 1e-5))
    assert by_sum["rdp_filter"] is None
    assert by_sum["epsilon_counted"] == by_sum["epsilon"] == epsilon_of(3.0, 0.5, 10, 1e-6)
    assert (none["epsilon_counted"], none["rdp_filter"]["order"]) == (0.0, policy.allowance.order)
    shown = answer(capsys, "show", "--dir", tmp_path)
    assert "RDP(6)" in shown
    assert "│ sum │" in " ".join(shown.split())


def test_overlaps_are_named_and_both_sides_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = open_ledger(folder / "ledger.sqlite")
    ledger.record_plan(terms(b"\x05" * 16, **SIGMA), images(1, 2, 8))
    ledger.reserve(b"\x05" * 16, 1, 4)
    one, two = json.loads(answer(capsys, "show", "--dir", folder, "--json"))["datasets"]
    assert (one["overlaps"], two["overlaps"]) == ([two["dataset"]], [one["dataset"]])
    assert one["sessions"] == two["sessions"] == 4


def test_what_nothing_bounds_is_never_given_a_figure(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ledger = open_ledger(folder / "ledger.sqlite")
    ledger.record_plan(terms(b"\x06" * 16, **SIGMA, noise="insecure-deterministic"), images(50))
    ledger.reserve(b"\x06" * 16, 1, 4)
    bare = json.loads(answer(capsys, "show", "--dir", folder, "--json"))["datasets"][-1]
    assert (bare["private"], bare["epsilon"], bare["pld"]["epsilon"]) == (False, None, None)
    assert "unbounded (NOT PRIVATE)" in answer(capsys, "show", "--dir", folder)
    assert "NOT PRIVATE" in answer(capsys, "history", "--dir", folder)


def test_history(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    events = json.loads(answer(capsys, "history", "--dir", folder, "--json"))
    assert [event["event"] for event in events] == ["plan", "reservation"] * 3 + ["release", "plan"]
    assert events[1]["detail"] == "4 steps"
    assert answer(capsys, "history", "--dir", folder).count("σ 3") == 4


def test_export_holds_the_facts_and_nothing_about_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = answer(capsys, "export", "--dir", folder)
    out = folder / "export.json"
    assert answer(capsys, "export", "--dir", folder, "--out", out) == ""
    assert out.read_text() == printed
    assert out.stat().st_mode & 0o777 == 0o600
    exported = json.loads(printed)
    assert exported["format"] == "fedapt-ledger-export/1"
    assert [one["steps_taken"] for one in exported["sessions"]] == [4, 4, 4, 0]
    assert exported["sessions"][0]["noise_multiplier"] == 3.0
    assert "epsilon" not in exported["sessions"][0], "computed from the facts, not one of them"
    ledger = open_ledger(folder / "ledger.sqlite")
    secrets = [(folder / KEY_FILE).read_bytes(), *(one.images for one in ledger.sessions)]
    secrets += [one for image in images(1, 2, 3) for one in (*image.files, image.pixels)]
    secrets += list(ledger._fingerprinter.fingerprints(images(1, 2, 3, 8, 9)))
    assert not any(secret.hex() in printed for secret in secrets)


def test_settings_say_where_ledger_and_policy_lie(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    party = folder / "party"
    party.mkdir()
    (party / "client.yaml").write_text("name: clinic-1\nport: 1\ndata: x\nledger: ../ledger.sqlite\n")
    shown = json.loads(answer(capsys, "show", "--dir", party, "--json"))
    assert shown["policy_source"] == f"defaults: there is no policy file {party / 'policy.yaml'}"
    assert len(shown["datasets"]) == 2
    (party / "client.yaml").write_text(
        "name: clinic-1\nport: 1\ndata: x\nledger: ../ledger.sqlite\npolicy: rules/ours.yaml\n"
    )
    (party / "rules").mkdir()
    write_yaml(party / "rules" / "ours.yaml", Policy(max_epsilon=4.0), comment="Ours.")
    shown = json.loads(answer(capsys, "show", "--dir", party, "--json"))
    assert shown["policy_source"] == str(party / "rules" / "ours.yaml")
    assert {one["max_epsilon"] for one in shown["datasets"]} == {4.0}


@pytest.mark.parametrize("rule", [{}, {"composition": "rdp-filter", "rdp_order": 6.0}])
def test_a_ledger_by_itself_says_nothing_of_what_is_left(
    tmp_path: Path, rule: dict, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """The default policy is not its institution's: what that leaves is nobody's figure."""
    monkeypatch.setenv("COLUMNS", "200")
    ledger = open_ledger(tmp_path / "ledger.sqlite")
    ledger.record_plan(terms(**SIGMA, **rule), images(1, 2))
    ledger.record_plan(terms(OTHER, **SIGMA, **rule), images(7))
    ledger.reserve(MINE, 1, 4)
    shown = json.loads(answer(capsys, "show", "--dir", tmp_path, "--json"))
    assert shown["policy"] is None
    begun, unused = shown["datasets"]
    for name in ("epsilon_remaining", "delta_remaining", "max_epsilon", "max_delta"):
        assert begun[name] is None, name
    assert begun["epsilon"] == pytest.approx(epsilon_of(3.0, 0.5, 10, 1e-6))
    assert begun["pld"]["delta"] == 1e-6
    assert (unused["epsilon"], unused["epsilon_counted"], unused["pld"]["epsilon"]) == (0.0, 0.0, 0.0)
    out = answer(capsys, "show", "--dir", tmp_path)
    assert "name an institution's folder with --dir" in " ".join(out.split())
    assert out.count("not known") == 4
    exported = json.loads(answer(capsys, "export", "--dir", tmp_path))
    assert exported["policy"] is None


@pytest.mark.parametrize("command", ["show", "history", "export"])
@pytest.mark.parametrize("state", ["missing", "empty", "rubbish", "no key", "bad policy", "bad settings"])
def test_what_cannot_be_read_is_one_line(
    folder: Path, command: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match state:
        case "missing":
            (folder / "ledger.sqlite").unlink()
        case "empty":
            (folder / "ledger.sqlite").write_bytes(b"")
        case "rubbish":
            (folder / "ledger.sqlite").write_bytes(b"x" * 9000)
        case "no key":
            (folder / KEY_FILE).unlink()
        case "bad policy":
            (folder / "policy.yaml").write_text("max_epsilom: 3\n")
        case "bad settings":
            (folder / "client.yaml").write_text("nme: x\n")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run(["client", "ledger", command, "--dir", str(folder)]) == ExitStatus.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert str(folder) in err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_export_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["client", "ledger", "export", "--dir", str(folder), "--out", str(folder / "no" / "x")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_ledger_without_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_ledger(tmp_path / "ledger.sqlite")
    assert "no session is on record" in answer(capsys, "show", "--dir", tmp_path)
    assert "no session is on record" in answer(capsys, "history", "--dir", tmp_path)
