"""How long does an audit of a long log take, and how much memory?

    python -m benchmarks.protocol.audit_logs --lines 1000000

Writes the log of one institution of five, with all that its rounds leave in it (seven lines a round, one of
them with six signed heads), and audits it in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.judgement import audit
from fedapt_secure.log.heads import countersign, sign_head, witnessed_body
from fedapt_secure.log.line import GENESIS, LogHead, SegmentHeader, line_bytes, opened_body

ROUNDS_A_SESSION = 100
PARTY = "clinic-1"
OTHERS = ("clinic-2", "clinic-3", "clinic-4", "clinic-5", COORDINATOR)


def write_log(path: Path, lines: int) -> None:
    identities = {name: Identity.generate() for name in (PARTY, *OTHERS)}
    header = SegmentHeader(bytes(16), PARTY, "institution", identities[PARTY].public_key)
    start, prev, seq = datetime(2026, 1, 1, tzinfo=UTC), GENESIS, 0
    session = round_number = 0
    with path.open("wb") as stream:

        def write(type: str, body: dict[str, Any]) -> None:
            nonlocal prev, seq
            moment = start + timedelta(seconds=seq)
            raw = line_bytes(seq, moment, type, body, prev, identities[PARTY])
            stream.write(raw + b"\n")
            prev, seq = sha256(raw).digest(), seq + 1

        write("log_opened", opened_body(header))
        while seq < lines:
            if round_number % ROUNDS_A_SESSION == 0:
                session, round_number = session + 1, 0
                write("session_accepted", accepted(session))
            round_number += 1
            key = session.to_bytes(16, "big")
            about = {"session": key.hex(), "round": round_number, "attempt": 1, "context": "ab" * 32}
            write("round_joined", about | {"model": "cd" * 32})
            write("spend", spend(key.hex(), round_number))
            write("phase", {"round": round_number, "phase": "advertise"})
            write("phase", {"round": round_number, "phase": "share"})
            write("released", about)
            heads = [
                sign_head(identities[PARTY], PARTY, key, round_number, LogHead(bytes(16), seq - 1, prev))
            ]
            for name in OTHERS:
                head = LogHead(sha256(name.encode()).digest()[:16], seq, sha256(prev).digest())
                heads.append(sign_head(identities[name], name, key, round_number, head))
            ended = {"status": "completed", "contributors": [PARTY, *OTHERS[:-1]], "transcript": "ef" * 32}
            write("round_ended", about | ended)
            mark = countersign(identities[COORDINATOR], key, round_number, heads)
            write("witnessed", witnessed_body(key, round_number, heads, mark))
    path.with_name("roster.json").write_text(roster(identities))


def accepted(session: int) -> dict[str, Any]:
    plan = {
        "dataset": f"{session:032x}",
        "overlaps": [],
        "unit": "image",
        "declared_records": 1000,
        "noise": "keystream",
        "noise_multiplier": 4.0,
        "sample_rate": 0.1,
        "max_steps": ROUNDS_A_SESSION,
        "delta": 1e-5,
        "epsilon_budget": 8.0,
        "epsilon_planned": 2.0,
        "spent_before": {"epsilon": 0.0, "delta": 0.0, "sessions": 0},
    }
    return {
        "session": session.to_bytes(16, "big").hex(),
        "configuration": "12" * 32,
        "roster": "34" * 32,
        "secure_aggregation": "masking",
        "privacy": plan,
    }


def spend(session: str, round_number: int) -> dict[str, Any]:
    return {
        "session": session,
        "round": round_number,
        "dataset": f"{int(session, 16):032x}",
        "steps": 1,
        "total_steps": round_number,
        "noise_multiplier": 4.0,
        "sample_rate": 0.1,
        "delta": 1e-5,
        "epsilon": 2.0,
    }


def roster(identities: dict[str, Identity]) -> str:
    from fedapt_crypto.seal import SealingKey  # noqa: PLC0415
    from fedapt_secure.config.party_folder import roster_to_json  # noqa: PLC0415
    from tests.support.rosters import roster_of  # noqa: PLC0415

    entries = [
        (name, identities[name], SealingKey(SealingKey.fresh_root()).public_key, 0)
        for name in (PARTY, *OTHERS[:-1])
    ]
    return roster_to_json(roster_of(identities[COORDINATOR].public_key, entries))


def measure(path: Path, threads: int) -> None:
    start = time.perf_counter()
    judgement = audit([path], path.with_name("roster.json"), threads=threads)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak, cpu_s = usage.ru_maxrss, usage.ru_utime + usage.ru_stime
    lines = judgement.parties[0].logs[0].lines
    print(
        json.dumps(
            {
                "lines": lines,
                "seconds": seconds,
                "cpu_s": cpu_s,
                "peak_mib": peak / 1024,
                "verdict": judgement.verdict,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--measure", metavar="LOG", type=Path, help="only audit this one, with one of --threads"
    )
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.threads[0])
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{PARTY}.jsonl"
        start = time.perf_counter()
        write_log(path, options.lines)
        print(f"written in {time.perf_counter() - start:.0f} s: {path.stat().st_size / 1e6:.0f} MB")
        for threads in options.threads:
            command = [
                sys.executable,
                "-m",
                "benchmarks.protocol.audit_logs",
                "--measure",
                str(path),
                "--threads",
                str(threads),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            print(
                f"{found['lines']} lines, {threads} threads: {found['seconds']:.1f} s"
                f" ({found['cpu_s']:.1f} s of one core),"
                f" {found['peak_mib']:.0f} MiB at most, {found['verdict']}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
