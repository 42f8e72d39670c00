"""One `fedapt-secure simulate` whose time is noted; `simulate_time.py` runs it in processes of its own.

    python -m benchmarks.protocol.simulated_run OUT.json --set rounds=3

The parts are told apart at the product's own functions; what the event loop does besides is the network:
websockets, TLS, timers.
"""

import argparse
import asyncio
import json
import os
import resource
import selectors
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.protocol.timeline import IDLE, Timeline
from fedapt_client.books.books import Books
from fedapt_client.books.ledger import Ledger
from fedapt_client.runner import InstitutionRunner
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.training import learner
from fedapt_secure.config.settings import build
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.log.reader import read_log
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.simulate import command
from fedapt_secure.simulate.setup import federation
from fedapt_server.archive.store import SessionStore
from fedapt_server.service import CoordinatorService
from fedapt_server.session.machine import CoordinatorSession

IMPORT, MODEL, SET_UP, FEATURES = "import", "model and data", "keys and enrolment", "features"
ACCOUNTING, TRAINING, EVALUATION = "accounting", "training", "evaluation"
CRYPTO, NETWORK, RECORDS, DISPLAY = "crypto", "network", "ledger and logs", "display and summary"
CATEGORIES = (
    IMPORT,
    MODEL,
    SET_UP,
    FEATURES,
    ACCOUNTING,
    TRAINING,
    CRYPTO,
    NETWORK,
    RECORDS,
    EVALUATION,
    DISPLAY,
)


def instrument(timeline: Timeline) -> None:
    """Put boundaries around what is to be told apart; `Timeline.restore` takes them away again."""
    selector = type(selectors.DefaultSelector())
    boundaries: dict[str, list[tuple[Any, tuple[str, ...]]]] = {
        IDLE: [(selector, ("select",))],
        SET_UP: [(command, ("prepare",))],
        MODEL: [(federation, ("load_backbone", "deal_dataset")), (learner, ("session_backbone",))],
        FEATURES: [(learner, ("read_records", "load_features"))],
        ACCOUNTING: [(learner, ("plan_session", "epsilon_of")), (learner.Learner, ("budget",))],
        TRAINING: [(learner.Learner, ("train",))],
        EVALUATION: [(learner.Learner, ("conclude",))],
        # Decoding, signatures, hashes, sealing, masks, shares: all that a message makes either side do.
        CRYPTO: [
            (InstitutionSession, ("receive", "trained")),
            (CoordinatorSession, ("receive", "connected", "start", "timeout")),
        ],
        RECORDS: [
            (Books, ("read_policy_again", "check_again", "accept", "reserve", "spend_body", "policy_body")),
            (Ledger, ("plan", "record_plan", "join", "reserve", "steps_spent", "is_reserved", "release")),
            (LogWriter, ("write", "head", "close")),
            (SessionStore, ("keep",)),
            (InstitutionRunner, ("__init__",)),
            (CoordinatorService, ("__init__",)),
        ],
        DISPLAY: [
            (command, ("summarise", "write_pictures", "print_result", "print_balance")),
            (command.ProgressDisplay, ("watch",)),
        ],
    }
    for category, owners in boundaries.items():
        for owner, names in owners:
            for name in names:
                timeline.wrap(owner, name, category)


def noted_run(options: list[str], out: Path, spawned: float) -> dict[str, Any]:
    """Run a simulation; return when what happened and where the time went.

    Args:
        options: ``NAME=VALUE`` of configs/simulate.yaml.
        out: The run folder to make.
        spawned: When the process was started, as `time.time` has it.
    """
    timeline, plain_run, imported = Timeline(), asyncio.run, time.time()

    def noted_loop(main: Coroutine[Any, Any, None]) -> None:
        timeline.enter(NETWORK)
        try:
            plain_run(main)
        finally:
            timeline.leave()

    fields = dict(option.split("=", 1) for option in options)
    settings = build(SimulateSettings, fields | {"out": str(out)}, source="benchmark")
    instrument(timeline)
    asyncio.run = noted_loop  # type: ignore[assignment]
    try:
        with Path(os.devnull).open("w") as nowhere:
            ready, summary = command.simulate(settings, Console(file=nowhere))
    finally:
        asyncio.run = plain_run
        timeline.restore()
    ended = time.time()
    rounds = round_windows(ready.folder.log(federation.COORDINATOR))
    return {
        "options": options,
        "total_s": ended - spawned,
        "start_up_s": rounds[0][0] - spawned,
        "seconds": timeline.shares([(imported, ended)]) | {IMPORT: imported - spawned},
        "round_seconds": timeline.shares(rounds),
        "round_processor_seconds": timeline.processor_seconds(rounds),
        "round_s": [end - start for start, end in rounds],
        "rounds_s": rounds[-1][1] - rounds[0][0],
        "bytes_up": [one["bytes_up"] for one in summary["rounds"]],
        "completed": sum(one["status"] == "completed" for one in summary["rounds"]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def round_windows(log: Path) -> list[tuple[float, float]]:
    """Return start and end of each attempt at a round, as the coordinator's log has them."""
    windows, start = [], None
    for entry in read_log(log):
        if entry.type == "round_started":
            start = entry.time.timestamp()
        elif entry.type == "round_ended" and start is not None:
            windows.append((start, entry.time.timestamp()))
    return windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path)
    parser.add_argument("--spawned", type=float, help="when the process was started: imports count then")
    parser.add_argument("--set", action="append", default=[], dest="options", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = noted_run(arguments.options, Path(folder) / "run", arguments.spawned or time.time())
    arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
