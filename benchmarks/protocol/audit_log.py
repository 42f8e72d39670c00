"""Measure how fast a party's log is written and verified, on one core and on all, and the memory it takes.

    python -m benchmarks.protocol.audit_log [--lines 1000000] [--keep FOLDER] [--json FILE]

The log is one of an institution: sessions of 15 rounds with five others, the lines and bodies that a real one
has. It is verified line by line, form, chain and signatures, in a process of its own for each number of
threads, so that the peak memory is that of reading alone. Processor seconds are given beside the time that
passed, and what bare signature checks cost at the same time: on a machine that others use too only their
ratio can be compared.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedapt_crypto.identity import Identity
from fedapt_secure.log.heads import countersign, sign_head, witnessed_body
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.reader import LogReader, segments
from fedapt_secure.log.writer import LogWriter

ROUNDS = 15
OTHERS = ("clinic-2", "clinic-3", "clinic-4", "clinic-5")
PHASES = ("advertise", "share", "masked_input", "consistency", "unmask")
MIB = 1 << 20


def real_lines() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield types and bodies as an institution's log has them, session after session, without end."""
    identity = Identity.generate()
    while True:
        session, configuration = os.urandom(16), os.urandom(32).hex()
        plan = {
            "dataset": os.urandom(16).hex(), "overlaps": [], "unit": "image", "declared_records": 270,
            "mechanism": "gaussian-grid", "noise": "keystream", "noise_multiplier": 2.14, "sample_rate": 0.5,
            "max_steps": 60, "delta": 1e-5, "epsilon_budget": 8.0, "epsilon_planned": 7.63,
            "accountant": "prv", "warning": None,
            "spent_before": {"epsilon": 0.0, "delta": 0.0, "sessions": 0},
        }  # fmt: skip
        accepted = {"session": session.hex(), "configuration": configuration, "roster": configuration}
        yield "session_accepted", accepted | {"secure_aggregation": "masking", "privacy": plan}
        for number in range(1, ROUNDS + 1):
            where = {"session": session.hex(), "round": number, "attempt": 1, "context": os.urandom(32).hex()}
            spend = {
                "dataset": plan["dataset"],
                "steps": 4,
                "total_steps": 4 * number,
                "epsilon": 0.5 * number,
            }
            yield "round_joined", where | {"model": os.urandom(32).hex()}
            yield "spend", {"session": session.hex(), "round": number, "delta": 1e-5} | spend
            for phase in PHASES:
                if phase == "masked_input":
                    yield "released", where | {"saturated": 0}
                yield "phase", {"round": number, "phase": phase}
            names = ["clinic-1", *OTHERS]
            ended = {"status": "completed", "contributors": names, "transcript": os.urandom(32).hex()}
            yield "round_ended", where | ended
            heads = [
                sign_head(identity, name, session, number, LogHead(os.urandom(16), number, os.urandom(32)))
                for name in (*names, "coordinator")
            ]
            mark = countersign(identity, session, number, heads)
            yield "witnessed", witnessed_body(session, number, heads, mark)
        yield "session_ended", {"session": session.hex(), "model": configuration, "bundle": configuration}


def write(path: Path, lines: int) -> dict[str, float]:
    """Write a log of so many lines, nothing synced but at the end, and return what it took."""
    identity = Identity.generate()
    writer = LogWriter(path, party="clinic-1", role="institution", identity=identity)
    source = real_lines()
    started, processor = time.perf_counter(), 0.0
    for _ in range(lines - 1):
        kind, body = next(source)
        before = time.process_time()
        writer.write(kind, body, durable=False)
        processor += time.process_time() - before
    writer.close()
    size = sum(file.stat().st_size for file in segments(path))
    return {"seconds": time.perf_counter() - started, "processor_seconds": processor, "bytes": size}


def signature_check_us(repeats: int = 5000) -> float:
    """Return processor microseconds of one Ed25519 check of a message of a line's size."""
    key = Ed25519PrivateKey.generate()
    message = bytes(500)
    signature, public_key = key.sign(message), key.public_key()
    started = time.process_time()
    for _ in range(repeats):
        public_key.verify(signature, message)
    return (time.process_time() - started) / repeats * 1e6


def verify(path: Path, threads: int) -> dict[str, float]:
    """Verify a log in this process and return what it took."""
    before = signature_check_us()
    started, processor = time.perf_counter(), time.process_time()
    reader = LogReader(segments(path), threads=threads)
    for _ in reader.entries():
        pass
    if reader.problems:
        raise SystemExit(reader.problems[0].message)
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - processor
    return {
        "lines": reader.lines,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "signature_check_us": (before + signature_check_us()) / 2,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def verify_elsewhere(path: Path, threads: int) -> dict[str, float]:
    """Verify a log in a new process, on as many cores as there are threads."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    command = [
        sys.executable,
        "-m",
        "benchmarks.protocol.audit_log",
        "--verify",
        str(path),
        "--threads",
        str(threads),
    ]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="write the log here and leave it")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--verify", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.verify:
        print(json.dumps(verify(options.verify, options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = (options.keep or Path(folder)) / "clinic-1.jsonl"
        written = write(path, options.lines)
        print(
            f"wrote {options.lines:,} lines, {written['bytes'] / MIB:.0f} MiB in {len(segments(path))} files:"
            f" {options.lines / written['processor_seconds']:,.0f} lines a processor second"
        )
        figures = {"written": written}
        for threads in sorted({1, len(os.sched_getaffinity(0))}):
            found = verify_elsewhere(path, threads)
            figures[f"{threads} threads"] = found
            print(
                f"verified with {threads} thread(s): {found['seconds']:.1f} s,"
                f" {found['processor_seconds']:.1f} processor s, {found['lines'] / found['seconds']:,.0f}"
                f" lines/s, peak {found['peak_mib']:.0f} MiB; a bare signature check"
                f" {found['signature_check_us']:.0f} us"
            )
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
