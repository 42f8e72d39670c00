"""`simulate --participation one-per-domain`: real sockets, noise, masks and logs, three domains of two."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.secagg.cohorts import ONE_PER_DOMAIN, round_roster
from fedapt_secure.cli.app import run
from fedapt_secure.config.party_folder import roster_from_json
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.log.reader import read_log
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.parameters import ParameterShape, flatten, initial_parameters
from tests.integration.log_schema import check_line
from tests.integration.simulated.test_simulate import Tap

pytestmark = pytest.mark.integration

DOMAINS, CLASSES, ROUNDS, STEPS = ("bright", "dark", "noisy"), ("left", "right"), 3, 2
TINY = ParameterShape(classes=2, context_tokens=16, text_width=64, feature_size=64, domains=3)
RESOLUTION = FixedPoint(3, SimulateSettings().update_clip).resolution


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A lit left or right half, in three lights; 40 images a class and domain."""
    rng, root = np.random.default_rng(0), tmp_path / "images"
    for domain, level in zip(DOMAINS, (200, 90, 140), strict=True):
        for side, name in enumerate(CLASSES):
            folder = root / domain / name
            folder.mkdir(parents=True)
            for number in range(40):
                pixels = rng.integers(0, 40, (16, 16, 3))
                pixels[:, 8 * side : 8 * side + 8] += level
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    return Tap(monkeypatch)


def test_each_round_is_one_of_each_domain(simulate, tap: Tap, images: Path, capsys) -> None:
    options = ["--dataset", "folder", "--data-root", str(images), "--clients", "6"]
    # 29 images each: too few for a default delta.
    training = ["--rounds", str(ROUNDS), "--local-steps", str(STEPS), "--dp-delta", "0.01"]
    done = simulate(*options, *training, "--participation", ONE_PER_DOMAIN)
    assert done.status == ExitStatus.DONE
    folder, summary = done.folder, done.summary
    logs = {path.stem: list(read_log(path)) for path in (folder / "logs").glob("*.jsonl")}
    for party, entries in logs.items():
        for entry in entries:
            check_line("coordinator" if party == "coordinator" else "institution", entry.type, entry.body)

    # The rule, computed here from what an auditor has.
    started = next(entry.body for entry in logs["coordinator"] if entry.type == "session_started")
    roster = roster_from_json((folder / "roster.json").read_bytes(), folder / "roster.json")
    configuration = bytes.fromhex(started["configuration"])
    cohorts = [round_roster(roster, ONE_PER_DOMAIN, configuration, n + 1).names for n in range(ROUNDS)]
    rounds = summary["rounds"]
    assert [one["status"] for one in rounds] == ["completed"] * ROUNDS
    assert [tuple(one["contributors"]) for one in rounds] == cohorts
    assert all(one["dropped"] == [] for one in rounds)

    # Sums are exact: the start plus the plain mean of each round's three.
    model, taken = initial_parameters(TINY, 0).astype(float), dict.fromkeys(roster.names, 0)
    for cohort in cohorts:
        model += np.mean([tap.updates[name][taken[name]] for name in cohort], axis=0)
        for name in cohort:
            taken[name] += 1
    bundle = read_bundle(folder / "model.safetensors")
    found = flatten(bundle.shape, bundle.parameters)
    assert np.abs(found - model).max() <= ROUNDS * (RESOLUTION / 2 + 8 * 2.0**-24)

    # Everybody plans and spends its own rounds, no more; fewer rounds take less noise.
    assert {name: len(updates) for name, updates in tap.updates.items() if updates} == {
        name: count for name, count in taken.items() if count
    }
    noise = {}
    for name, count in taken.items():
        plan = next(e.body["privacy"] for e in logs[name] if e.type == "session_accepted")
        assert plan["max_steps"] == max(1, count) * STEPS
        assert summary["privacy"][name]["steps"] == count * STEPS
        assert summary["privacy"][name]["epsilon_spent"] <= 8
        noise[max(1, count)] = plan["noise_multiplier"]
    assert [noise[count] for count in sorted(noise)] == sorted(noise.values())

    capsys.readouterr()
    assert run(["audit", str(folder), "--json", "--trust", str(folder / "roster.json")]) == ExitStatus.DONE
    fields = json.loads(capsys.readouterr().out)
    assert (fields["verdict"], fields["findings"], fields["not_checked"]) == ("VERIFIED", [], [])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--secure-aggregation", "ckks"], "rounds belong to the whole roster: choose masking"),
        (["--clients", "4"], "have institutions of more domains, or set participation to all"),
    ],
)
def test_what_has_no_cohorts_is_refused(
    simulate, images: Path, options: list[str], reason: str, capsys
) -> None:
    for path in sorted((images / DOMAINS[2]).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (images / DOMAINS[2]).rmdir()
    base = ["--dataset", "folder", "--data-root", str(images), "--participation", ONE_PER_DOMAIN]
    assert simulate(*base, *options).status == ExitStatus.BAD_INPUT
    error = capsys.readouterr().err
    assert reason in " ".join(error.split())
    assert "Traceback" not in error
