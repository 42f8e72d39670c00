"""What must hold after a soak, read from what every party has on disk.

- Every round completed; or it was given up, and then so few could still contribute that no attempt could.
- The model after each completed round is, bit for bit, the one before plus the mean of the known updates of
  its recorded contributors in that attempt; the last one is everybody's.
- An institution released at most one update a round; who had released one contributes to no other attempt.
- Ledger and log of an institution record at least the steps of every round that it trained in.
"""

import contextlib
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedapt_client.training.kept_models import MODEL_FILE
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import initial_parameters
from fedapt_secure.protocol.plan import MAX_ATTEMPTS
from fedapt_secure.protocol.session import model_hash
from tests.soak.consortium import Consortium
from tests.soak.party import USED_FILE, update_of

Attempt = tuple[int, int]


def entries(log: Path, *types: str) -> list[dict[str, Any]]:
    """Bodies of the whole lines of some types."""
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    found = (json.loads(line) for line in lines if line.endswith(b"\n"))
    return [entry["body"] | {"type": entry["type"]} for entry in found if entry["type"] in types]


@dataclass
class Judgement:
    """What did not hold, and what there was."""

    broken: list[str] = field(default_factory=list)
    completed: int = 0
    given_up: int = 0
    aborted_attempts: int = 0
    fewest_contributors: int = 0
    updates_summed: int = 0
    updates_burned: int = 0
    retrained: int = 0


def judge(consortium: Consortium) -> Judgement:
    judgement = Judgement()
    ended = entries(consortium.log(COORDINATOR), "round_ended")
    released = {name: _released(consortium, name, judgement) for name in consortium.roster.names}
    _check_attempts(ended, consortium, released, judgement)
    _check_sums(ended, consortium, released, judgement)
    for name in consortium.roster.names:
        _check_spend(name, consortium, judgement)
    return judgement


def _released(consortium: Consortium, name: str, judgement: Judgement) -> dict[int, int]:
    """Round to the attempt in which its update was released, as the institution's own log says."""
    found: dict[int, int] = {}
    for body in entries(consortium.log(name), "released"):
        if body["round"] in found:
            judgement.broken.append(f"{name} released two updates of round {body['round']}")
        found[body["round"]] = body["attempt"]
    with contextlib.closing(sqlite3.connect(consortium.party(name) / "ledger.sqlite")) as ledger:
        recorded = {number for (number,) in ledger.execute("SELECT round FROM releases")}
    if missing := set(found) - recorded:
        judgement.broken.append(f"{name}'s ledger lacks the release of rounds {sorted(missing)}")
    # A crash may come between the two: what only the ledger knows was never sent, and counts as burned.
    return dict.fromkeys(recorded, 0) | found


def _check_attempts(
    ended: list[dict[str, Any]],
    consortium: Consortium,
    released: dict[str, dict[int, int]],
    judgement: Judgement,
) -> None:
    attempts: dict[int, list[str]] = {}
    for body in ended:
        of_round = attempts.setdefault(body["round"], [])
        of_round.append(body["status"])
        if body["attempt"] != len(of_round) or "completed" in of_round[:-1]:
            judgement.broken.append(f"round {body['round']}, attempt {body['attempt']} is out of order")
    if list(attempts) != list(range(1, consortium.plan.rounds + 1)):
        judgement.broken.append(f"rounds {list(attempts)} are not all of {consortium.plan.rounds}, in order")
    threshold = entries(consortium.log(COORDINATOR), "session_started")[0]["threshold"]
    for number, statuses in attempts.items():
        judgement.aborted_attempts += statuses.count("aborted")
        if statuses[-1] == "completed":
            judgement.completed += 1
            continue
        judgement.given_up += 1
        free = sum(number not in of_one for of_one in released.values())
        if free >= threshold and len(statuses) < MAX_ATTEMPTS:
            judgement.broken.append(f"round {number} was given up although {free} could still contribute")


def _check_sums(
    ended: list[dict[str, Any]],
    consortium: Consortium,
    released: dict[str, dict[int, int]],
    judgement: Judgement,
) -> None:
    model = initial_parameters(consortium.plan.shape, consortium.plan.initial_seed)
    used: Counter[tuple[str, int]] = Counter()
    sizes = []
    for body in ended:
        number, attempt, names = body["round"], body["attempt"], body["contributors"]
        if body["status"] == "completed":
            total = np.zeros(len(model))
            for name in names:
                used[name, number] += 1
                total += update_of(name, number, attempt, len(model))
                if released[name].get(number) != attempt:
                    judgement.broken.append(f"round {number}: {name} has not released this attempt's update")
            model = (model.astype("f8") + total / len(names)).astype("f4")
            sizes.append(len(names))
        if model_hash(m.model_to_bytes(model)).hex() != body["model"]:
            judgement.broken.append(f"round {number}, attempt {attempt}: the model is not start plus mean")
            return
    judgement.broken += [
        f"{name} contributed twice to round {number}" for (name, number), n in used.items() if n > 1
    ]
    judgement.fewest_contributors = min(sizes, default=0)
    judgement.updates_summed = sum(sizes)
    judgement.updates_burned = sum(len(of_one) for of_one in released.values()) - sum(sizes)
    for name in consortium.roster.names:
        path = consortium.party(name) / MODEL_FILE
        if not path.exists() or path.read_bytes()[: model.nbytes] != model.astype("<f4").tobytes():
            judgement.broken.append(f"{name} does not hold the finished model")


def _check_spend(name: str, consortium: Consortium, judgement: Judgement) -> None:
    path, steps = consortium.party(name), consortium.plan.local_steps
    lines = (path / USED_FILE).read_text().splitlines() if (path / USED_FILE).exists() else []
    trained: list[Attempt] = [(int(number), int(attempt)) for number, attempt in map(str.split, lines)]
    rounds = {number for number, _ in trained}
    judgement.retrained += len(trained) - len(rounds)
    with contextlib.closing(sqlite3.connect(path / "ledger.sqlite")) as ledger:
        reserved = dict(ledger.execute("SELECT round, steps FROM reservations"))
        most = ledger.execute("SELECT max_steps FROM plans").fetchone()[0]
    logged = {body["round"] for body in entries(consortium.log(name), "spend")}
    if any(reserved.get(number, 0) < steps for number in rounds):
        judgement.broken.append(f"{name}'s ledger records less than it used")
    if rounds - logged:
        judgement.broken.append(f"{name}'s log lacks the spend of rounds {sorted(rounds - logged)}")
    if sum(reserved.values()) > most:
        judgement.broken.append(f"{name} reserved more steps than it planned")
