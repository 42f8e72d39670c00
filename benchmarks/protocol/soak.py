"""A federation of many institutions under kill -9, with real processes, sockets, TLS, ledgers and logs.

python -m benchmarks.protocol.soak --institutions 50 --rounds 20 --minutes 12
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from tests.soak.consortium import Consortium, found_consortium
from tests.soak.judgement import Judgement, judge
from tests.soak.kills import random_kills
from tests.soak.play import Play, Sample

GROUP = 10
MEMORY_MAY_GROW_MIB = 16.0
FILES_MAY_GROW = 8
WARM_UP = 2
"""Samples of a life before its memory counts as settled."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--institutions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        consortium = found_consortium(Path(folder), arguments.institutions, arguments.rounds)
        groups = max(1, arguments.institutions // GROUP)
        began = time.monotonic()

        def say(line: str) -> None:
            print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

        say(f"{arguments.institutions} institutions in {groups} processes, seed {arguments.seed}")
        play = Play(consortium, groups, random_kills(arguments.seed, groups, arguments.rounds), say)
        play.run(60 * arguments.minutes)
        took = time.monotonic() - began
        judgement = judge(consortium)
        broken = [*play.faults, *judgement.broken, *not_flat(play.samples, arguments.institutions)]
        if not play.faults:
            broken += audited(consortium)
    report(play, judgement, took)
    for line in broken:
        print(f"BROKEN: {line}")
    print("everything held" if not broken else f"{len(broken)} things did not hold")
    if arguments.json is not None:
        figures = {
            **asdict(judgement),
            "broken": broken,
            "killed": dict(play.killed),
            "seconds": took,
            "coordinator": [asdict(sample) for sample in play.samples],
        }
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 1 if broken else 0


def by_life(samples: list[Sample]) -> dict[int, list[Sample]]:
    lives: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.life].append(sample)
    return lives


def not_flat(samples: list[Sample], institutions: int) -> list[str]:
    """What grew in a life of the coordinator that should not: open files, connections, memory."""
    broken = []
    for life, found in by_life(samples).items():
        files = [sample.files for sample in found]
        if max(files) - min(files) > FILES_MAY_GROW:
            broken.append(f"life {life}: {min(files)} to {max(files)} open files")
        # Each of a certificate's two places, and the sockets that it listens on.
        if max(sample.sockets for sample in found) > 2 * institutions + FILES_MAY_GROW:
            broken.append(f"life {life}: more sockets than institutions may hold")
        settled = [sample.memory_mib for sample in found[WARM_UP:]]
        if settled and settled[-1] - settled[0] > MEMORY_MAY_GROW_MIB:
            broken.append(f"life {life}: memory grew from {settled[0]:.0f} to {settled[-1]:.0f} MiB")
    return broken


def audited(consortium: Consortium) -> list[str]:
    """Have the audit read everybody's log."""
    audit = "from fedapt_secure.cli import main; main()"
    paths = [str(consortium.logs), "--trust", str(consortium.roster_file)]
    done = subprocess.run(
        [sys.executable, "-c", audit, "audit", *paths], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return []
    return [f"the audit ends with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-500:]}"]


def report(play: Play, judgement: Judgement, took: float) -> None:
    print(f"{took:.0f} s; killed: {dict(play.killed)}")
    print(
        f"rounds completed {judgement.completed}, given up {judgement.given_up}; attempts aborted"
        f" {judgement.aborted_attempts}; updates summed {judgement.updates_summed} (at least"
        f" {judgement.fewest_contributors} a round), released without a sum {judgement.updates_burned};"
        f" trained again under the same reservation {judgement.retrained}"
    )
    print("| coordinator's life | attempts | memory first, last, most | files | sockets |")
    print("|---|---|---|---|---|")
    for life, found in by_life(play.samples).items():
        memory = [sample.memory_mib for sample in found]
        files, sockets = [s.files for s in found], [s.sockets for s in found]
        print(
            f"| {life} | {len(found)} | {memory[0]:.0f}, {memory[-1]:.0f}, {max(memory):.0f} MiB"
            f" | {files[0]}, {files[-1]}, {max(files)} | {sockets[0]}, {sockets[-1]}, {max(sockets)} |"
        )


if __name__ == "__main__":
    sys.exit(main())
