"""`fedapt-secure simulate` as its user runs it: real images, DP, TLS, sockets and masks."""

import dataclasses
import hashlib
import re
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fedapt_client.training.learner import Learner
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.secagg import registry
from fedapt_secure.cli.app import run
from fedapt_secure.cli.work.server_model import write_bundle
from fedapt_secure.config.party_folder import roster_from_json
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.log.heads import check_countersigned, read_closed, read_witnessed
from fedapt_secure.log.reader import read_log
from fedapt_secure.protocol.parameters import ParameterShape, flatten, initial_parameters
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.machine import CoordinatorSession
from tests.integration.log_schema import check_line
from tests.integration.simulated.conftest import Run

pytestmark = pytest.mark.integration

TINY = ParameterShape(classes=10, context_tokens=16, text_width=64, feature_size=64, domains=5)
TINY_OF_THREE = dataclasses.replace(TINY, domains=3)


class Tap:
    """Records what really happens: every update before protection, everything the coordinator gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updates: dict[str, list[np.ndarray]] = defaultdict(list)
        self.received: list[bytes] = []
        train, receive = Learner.train, CoordinatorSession.receive

        def tapped_train(learner: Learner, *arguments: object) -> np.ndarray:
            update = train(learner, *arguments)
            self.updates[learner._settings.name].append(update)
            return update

        def tapped_receive(session: CoordinatorSession, name: str, data: bytes) -> list:
            self.received.append(data)
            return receive(session, name, data)

        monkeypatch.setattr(Learner, "train", tapped_train)
        monkeypatch.setattr(CoordinatorSession, "receive", tapped_receive)


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    return Tap(monkeypatch)


@dataclass(frozen=True)
class Tapped:
    """A run and what was recorded of it; tests that share one only look at it."""

    run: Run
    tap: Tap


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Tapped:
    """As a newcomer runs it, with privacy, for two rounds."""
    folder = tmp_path_factory.mktemp("private")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tap = Tap(patch)
        status = run(["simulate", "--out", "run", "--rounds", "2", "--dp-epsilon", "8"])
    assert status == 0
    return Tapped(Run(status, folder / "run"), tap)


def assert_model_is_the_plain_mean(tap: Tap, folder: Path, summary: dict, institutions: int = 5) -> None:
    """The bundle is the start plus, for each completed round, the plain mean of its contributors."""
    model = initial_parameters(TINY, 0).astype(float)
    completed = [r for r in summary["rounds"] if r["status"] == "completed"]
    for entry in completed:
        model += np.mean([tap.updates[name][entry["round"] - 1] for name in entry["contributors"]], axis=0)
    bundle = read_bundle(folder / "model.safetensors")
    found = flatten(bundle.shape, bundle.parameters)
    # half a step of fixed point a round, and one float32 rounding of values below 8
    resolution = FixedPoint(institutions, SimulateSettings().update_clip).resolution
    assert np.abs(found - model).max() <= len(completed) * (resolution / 2 + 8 * 2.0**-24)


def test_a_training_that_diverges_declines_its_round(simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """One institution's update of round 1 is no number: the others go on, and it is back in round 2."""
    train, who = Learner.train, []

    def diverging(learner: Learner, parameters: object, key: object, round_number: int) -> np.ndarray:
        update = train(learner, parameters, key, round_number)
        if round_number == 1 and (not who or who == [learner._settings.name]):
            who[:] = [learner._settings.name]
            update = update.copy()
            update[3] = np.nan
        return update

    monkeypatch.setattr(Learner, "train", diverging)
    run = simulate("--rounds", "2", "--dp-epsilon", "8", "--clients", "4")
    assert run.status == 0
    first, second = run.summary["rounds"]
    assert [first["status"], second["status"]] == ["completed", "completed"]
    assert set(second["contributors"]) - set(first["contributors"]) == set(who)
    log = list(read_log(run.folder / "logs" / f"{who[0]}.jsonl"))
    [refused] = [entry.body for entry in log if entry.type == "refused"]
    assert (refused["code"], refused["round"]) == ("training_diverged", 1)
    assert sum(entry.type == "released" for entry in log) == 1


def test_the_main_job(private: Tapped) -> None:
    run, tap = private.run, private.tap
    summary = run.summary
    assert_model_is_the_plain_mean(tap, run.folder, summary)
    coordinators = run.folder / "coordinators.safetensors"
    write_bundle(run.folder / "parties" / "coordinator", None, coordinators)
    assert coordinators.read_bytes() == (run.folder / "model.safetensors").read_bytes()
    coordinators.unlink()
    assert set(summary) == {
        "accuracy", "top_5", "per_class", "confusion", "method", "keys", "routing", "routing_counts",
        "private", "not_private_because", "privacy", "rounds", "secure_aggregation", "device", "precision",
        "seconds_total", "synthetic", "away", "own_domain", "parameters", "unseen", "supervision",
        "prior_weight", "accuracy_by_routing",
    }  # fmt: skip
    assert summary["synthetic"] is False
    assert summary["prior_weight"] == read_bundle(run.folder / "model.safetensors").prior_weight > 0
    domains = {"ink", "chalk", "print", "pencil", "scan"}
    for part in (summary["accuracy"]["zero_shot"], summary["accuracy"]["fedapt"], summary["routing"]):
        assert set(part["per_domain"]) == domains
        assert 0 <= part["mean"] <= 1
    confusion, routed = np.array(summary["confusion"]), np.array(summary["routing_counts"])
    assert confusion.shape == (10, 10)
    assert [one["support"] for one in summary["per_class"]] == confusion.sum(axis=1).tolist()
    assert np.diag(routed) / routed.sum(axis=1) == pytest.approx([*summary["routing"]["per_domain"].values()])
    assert routed.sum() == confusion.sum()
    share_of = routed.sum(axis=1) / routed.sum()
    accuracies = [*summary["accuracy"]["fedapt"]["per_domain"].values()]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(share_of @ accuracies)
    assert all(
        summary["top_5"]["per_domain"][name] >= summary["accuracy"]["fedapt"]["per_domain"][name]
        for name in domains
    )
    names = [f"clinic-{i}" for i in range(1, 6)]
    assert list(summary["privacy"]) == names
    assert (summary["private"], summary["not_private_because"]) == (True, None)
    for spent in summary["privacy"].values():
        assert spent["noise"] == "keystream"
        assert 7.5 < spent["epsilon_spent"] <= spent["epsilon_budget"] == 8
        assert spent["steps"] == 8
        assert spent["delta"] == 1 / (2 * spent["declared_records"])
        assert spent["declared_records"] % 10 == 0
    for entry in summary["rounds"]:
        assert entry["participants"] == entry["contributors"] == names
        assert entry["status"] == "completed"
        assert entry["dropped"] == []
        assert entry["seconds"] > 0
        assert entry["bytes_up"] > 5 * 4 * TINY.size

    assert {p.name for p in run.folder.iterdir()} == {
        "config.yaml", "summary.json", "roster.json", "model.safetensors", "logs", "parties", "pictures",
        "report.html",
    }  # fmt: skip
    assert {p.name for p in (run.folder / "pictures").iterdir()} == {
        "confusion.png", "confusion.svg", "routing.png", "routing.svg"
    }  # fmt: skip
    assert {p.name for p in (run.folder / "logs").iterdir()} == {
        f"{name}.jsonl" for name in ["coordinator", *names]
    }
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert set(config) == set(SimulateSettings.model_fields)
    assert config["dp_epsilon"] == 8
    assert config["clients"] == 5
    assert config["device"] == summary["device"]


def test_what_the_coordinator_holds_and_what_lies_in_the_open(private: Tapped) -> None:
    run, tap = private.run, private.tap
    coordinator = run.folder / "parties" / "coordinator"
    files = [*coordinator.rglob("*"), run.folder / "logs" / "coordinator.jsonl"]
    stored = [path.read_bytes() for path in files if path.is_file()]
    seen = b"".join(tap.received + stored)
    fixed = FixedPoint(5, SimulateSettings().update_clip)
    for updates in tap.updates.values():
        for update in updates:
            ring, _ = fixed.encode(update)
            for form in (update.tobytes(), ring.tobytes(), update.astype("f8").tobytes()):
                for start in range(0, len(form) - 8, 1024):
                    assert form[start : start + 8] not in seen

    for path in (run.folder / "parties").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if path.is_file() else 0o700), path

    secrets = [path.read_bytes() for path in (run.folder / "parties").rglob("*.key")]
    assert len(secrets) == 6 * 3 + 1 + 5  # the authority's, and five for fingerprints
    files = [path for path in run.folder.rglob("*") if path.is_file() and "parties" not in path.parts]
    public = b"".join(path.read_bytes() for path in files)
    for secret in secrets:
        assert secret not in public
        assert secret.hex().encode() not in public


def test_without_privacy_a_seed_gives_the_same_model_under_every_scheme(simulate) -> None:
    models = []
    for scheme in ("masking", "none", "ckks"):
        run = simulate(
            "--rounds", "1", "--no-dp", "--clients", "3", "--secure-aggregation", scheme, out=scheme
        )
        assert run.status == 0
        bundle = read_bundle(run.folder / "model.safetensors")
        models.append(flatten(bundle.shape, bundle.parameters))
    assert np.abs(models[0] - initial_parameters(TINY_OF_THREE, 0)).max() > 0.1, "nothing was trained"
    assert np.abs(models[0] - models[1]).max() < 1e-4
    assert np.abs(models[0] - models[2]).max() < 1e-2


@pytest.mark.slow
def test_with_privacy_the_seed_decides_nothing_that_protects(simulate) -> None:
    models = []
    for number in range(2):
        run = simulate("--rounds", "1", "--clients", "3", out=str(number))
        models.append((run.folder / "model.safetensors").read_bytes())
    assert models[0] != models[1]


@pytest.mark.slow  # two whole simulations
def test_only_insecure_noise_makes_a_private_run_repeatable_and_says_so_everywhere(simulate, capsys) -> None:
    models = []
    for number in range(2):
        run = simulate("--rounds", "1", "--clients", "3", "--insecure-deterministic-noise", out=str(number))
        assert run.status == 0
        models.append((run.folder / "model.safetensors").read_bytes())
        assert run.summary["private"] is False
        assert "noise follows from the seed" in run.summary["not_private_because"]
        for name, spent in run.summary["privacy"].items():
            assert spent["noise"] == "insecure-deterministic"
            (accepted,) = [
                entry
                for entry in read_log(run.folder / "logs" / f"{name}.jsonl")
                if entry.type == "session_accepted"
            ]
            assert accepted.body["privacy"]["noise"] == "insecure-deterministic"
        out = capsys.readouterr().out
        for line in out.splitlines():
            if re.search(r"ε (=|\d)", line):
                assert "NOT PRIVATE" in line, line
        assert out.count("NOT PRIVATE") >= 4  # headline, statement, round, table
    assert models[0] == models[1]


@pytest.mark.slow  # tests/protocol/sessions has the like in less
def test_ckks_and_one_who_misses_the_sum(simulate, capsys) -> None:
    run = simulate(
        "--rounds", "3", "--clients", "4", "--secure-aggregation", "ckks", "--fail", "clinic-2@2:consistency"
    )
    assert run.status == 0
    assert "tolerates no collusion" in " ".join(capsys.readouterr().out.split())
    _, second, third = run.summary["rounds"]
    assert second["dropped"] == ["clinic-2"]
    assert "clinic-2" in second["contributors"]
    assert len(third["contributors"]) == 4


def test_without_protection_the_same_tap_finds_the_update(simulate, tap: Tap) -> None:
    run = simulate("--rounds", "1", "--secure-aggregation", "none")
    assert run.status == 0
    assert tap.updates["clinic-1"][0].tobytes() in b"".join(tap.received)


# These two put masks together again and open secrets; the other phases are among the long tests.
@pytest.mark.parametrize(
    "phase",
    [
        phase if phase == "masked_input" else pytest.param(phase, marks=pytest.mark.slow)
        for phase in registry.PHASES[registry.MASKING]
    ],
)
def test_one_of_five_vanishes(simulate, tap: Tap, phase: str) -> None:
    run = simulate("--rounds", "3", "--no-dp", "--fail", f"clinic-3@2:{phase}")
    assert run.status == 0
    first, second, third = run.summary["rounds"]
    assert (first["status"], second["status"], third["status"]) == ("completed",) * 3
    assert second["dropped"] == ["clinic-3"]
    assert ("clinic-3" in second["contributors"]) == (phase in ("consistency", "unmask"))
    assert len(first["contributors"]) == len(third["contributors"]) == 5
    assert_model_is_the_plain_mean(tap, run.folder, run.summary)


@pytest.mark.slow  # one of them vanishes in other tests
def test_two_of_five_vanish(simulate, tap: Tap, capsys) -> None:
    run = simulate("--rounds", "3", "--fail", "clinic-1@2:masked_input", "--fail", "clinic-3@2:masked_input")
    assert run.status == 0
    first, second, third = run.summary["rounds"]
    assert (first["status"], second["status"], third["status"]) == ("completed", "aborted", "completed")
    assert second["dropped"] == ["clinic-1", "clinic-3"]
    assert second["contributors"] == []
    assert_model_is_the_plain_mean(tap, run.folder, run.summary)
    for spent in run.summary["privacy"].values():
        assert spent["steps"] == 12, "an aborted round's steps stay spent"
    out = capsys.readouterr().out
    assert "round 2 aborted" in out
    assert "10,560 values trained, 0.28% of the model's" in out


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--no-dp"], marks=pytest.mark.slow),
        pytest.param(
            ["--secure-aggregation", "ckks", "--fail", "clinic-2@1:consistency"], marks=pytest.mark.slow
        ),
        ["--fail", "clinic-2@1:consistency", "--fail", "clinic-3@2:masked_input", "--clients", "5"],
    ],
    ids=["not private", "blind", "failing"],
)
def test_logs_hold_no_secret_and_nothing_that_follows_from_data_alone(simulate, options) -> None:
    run = simulate("--rounds", "2", "--clients", "4", *options)
    assert run.status == 0
    assert_logs_hold_nothing(run, private="--no-dp" not in options)


def test_nor_do_those_of_a_private_run(private: Tapped) -> None:
    assert_logs_hold_nothing(private.run, private=True)


def assert_logs_hold_nothing(run: Run, *, private: bool) -> None:
    secrets = [path.read_bytes() for path in (run.folder / "parties").rglob("*.key")]
    roster = roster_from_json((run.folder / "roster.json").read_bytes(), run.folder)
    for path in (run.folder / "logs").iterdir():
        key = roster.identity_key(path.stem)
        entries = list(read_log(path, identity=key))
        for entry in entries:
            check_line(entries[0].body["role"], entry.type, entry.body)
            assert private or "saturated" not in entry.body, "a count from data without noise"
        text = path.read_text()
        for public in ("initial_seed", "loss_temperature", "domain_loss_weight", '"batch_size":null'):
            text = text.replace(public, "")
        for word in ("loss", "accuracy", "batch", "correct", "seed", 'image": '):
            assert word not in text
        for secret in secrets:
            assert secret.hex() not in text
        for known in (run.folder / "parties" / path.stem).rglob("data/**/*.png"):
            assert known.name not in text
            assert hashlib.sha256(known.read_bytes()).hexdigest() not in text


def test_the_run_folder_is_what_an_auditor_needs(private: Tapped) -> None:
    """All logs agree on the session, and its configuration can be put together again from what lies open."""
    run = private.run
    roster = roster_from_json((run.folder / "roster.json").read_bytes(), run.folder)
    logs = {
        path.stem: list(read_log(path, identity=roster.identity_key(path.stem)))
        for path in (run.folder / "logs").iterdir()
    }
    [started] = [entry.body for entry in logs["coordinator"] if entry.type == "session_started"]
    configuration = SessionConfiguration(
        session=bytes.fromhex(started["session"]),
        plan=SessionPlan.model_validate(started["plan"]),
        roster=roster,
        key_commitments=tuple(bytes.fromhex(one) for one in started["key_commitments"]),
    )
    assert configuration.hash.hex() == started["configuration"]
    assert roster.hash.hex() == started["roster"]
    closed = [entry.body for log in logs.values() for entry in log if entry.type == "session_closed"]
    assert len(closed) == 6
    assert all(body == closed[0] for body in closed)
    statement, signatures, missing = read_closed(closed[0])
    assert missing == ()
    assert {entry.party for entry in signatures} == logs.keys()
    for entry in signatures:
        statement.check(roster, entry.party, entry.signature)
    records = {}
    for name, log in logs.items():
        [accepted] = [e.body for e in log if e.type == "session_accepted"] or [started]
        assert (accepted["session"], accepted["configuration"]) == (
            started["session"],
            started["configuration"],
        )
        ended = [
            tuple(entry.body[key] for key in ("round", "attempt", "status", "context", "transcript"))
            for entry in log
            if entry.type == "round_ended"
        ]
        records[name] = ended
        for entry in log:
            if entry.type == "witnessed":
                heads, mark = read_witnessed(entry.body)
                for head in heads:
                    head.check(roster)
                    seen = logs[head.signed.party][head.signed.seq]
                    assert seen.hash == head.signed.hash, "every head that anyone holds is in its log"
                if mark is not None:
                    signed = tuple(head.signed for head in heads)
                    check_countersigned(roster, statement.session, entry.body["round"], signed, mark)
    assert len(records["coordinator"]) == 2
    assert all(ended == records["coordinator"] for ended in records.values())


@pytest.mark.slow  # a whole simulation
def test_flipped_pages_and_more_institutions_than_domains(simulate) -> None:
    run = simulate("--rounds", "1", "--no-dp", "--dataset", "digits-flipped", "--clients", "7")
    assert run.status == 0
    summary = run.summary
    assert summary["private"] is False
    assert "no_dp" in summary["not_private_because"]
    assert len(summary["accuracy"]["fedapt"]["per_domain"]) == 5
    assert summary["privacy"] == {}
    assert len(summary["rounds"][0]["contributors"]) == 7


def test_a_folder_of_real_files(simulate, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for domain in ("photo", "sketch", "painting"):
        for label, colour in (("cat", 40), ("dog", 200)):
            folder = tmp_path / "data" / domain / label
            folder.mkdir(parents=True)
            for number in range(30):
                pixels = np.clip(rng.normal(colour, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.{('png', 'jpg')[number % 2]}")
    run = simulate("--dataset", "folder", "--data-root", str(tmp_path / "data"), "--rounds", "3", "--no-dp")
    assert run.status == 0
    assert set(run.summary["accuracy"]["fedapt"]["per_domain"]) == {"photo", "sketch", "painting"}
    assert run.summary["accuracy"]["fedapt"]["mean"] > 0.8


def test_a_configuration_file_and_the_command_line_on_top(simulate, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("rounds: 5\nno_dp: true\nclients: 3\n")
    run = simulate("--config", "my.yaml", "--rounds", "1")
    assert run.status == 0
    assert len(run.summary["rounds"]) == 1
    assert len(run.summary["rounds"][0]["contributors"]) == 3


def test_a_party_that_fails_ends_the_run_with_its_reason(simulate, monkeypatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise InvalidInput("the scanner is broken")

    monkeypatch.setattr("fedapt_client.training.learner.read_records", refuse)
    run = simulate("--rounds", "1")
    assert run.status == 2
    assert capsys.readouterr().err.strip() == "error: the scanner is broken"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dataset", ["digits", "digits-flipped"])
def test_the_figures_of_the_readme(simulate, dataset: str) -> None:
    """Seeds 0, 1, 2 at ε = 8 and without DP: gain, budget, routing."""
    private, plain = [], []
    for seed in ("0", "1", "2"):
        run = simulate("--seed", seed, "--dataset", dataset, out=f"dp-{seed}")
        summary = run.summary
        gain = summary["accuracy"]["fedapt"]["mean"] - summary["accuracy"]["zero_shot"]["mean"]
        if dataset == "digits":
            assert gain >= 0.10
        assert all(spent["epsilon_spent"] <= 8 for spent in summary["privacy"].values())
        assert summary["routing"]["mean"] >= 0.9
        private.append(summary["accuracy"]["fedapt"]["mean"])
        without = simulate("--seed", seed, "--dataset", dataset, "--no-dp", out=f"plain-{seed}").summary
        assert without["routing"]["mean"] >= 0.9
        plain.append(without["accuracy"]["fedapt"]["mean"])
    assert np.mean(plain) >= np.mean(private)
