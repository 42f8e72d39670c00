"""How a federation in one process grows with its institutions: time, processor, bytes and memory a round.

python -m benchmarks.protocol.scaling --json results.json                     # 10 to 1,000 institutions
python -m benchmarks.protocol.scaling --from results.json --docs docs/scaling.md    # renew the page's tables

Each size is a run of `fedapt-secure simulate` with the default model, in a process of its own held to two
cores. Phases are taken from the coordinator's log; processor time and memory are read while it runs, so that
other work on the machine moves the seconds and not the processor seconds.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.protocol.scaling_model import PHASES, renewed, report
from fedapt_crypto.secagg.masking.graph import topology
from fedapt_secure.log.follower import LONG, LogFollower

SIZES = (10, 20, 50, 100, 200, 500, 1000)
CORES = 2
LOOK_S = 0.25
MIB = 1 << 20


@dataclass
class Watch:
    """Processor seconds and memory of a process over time, read from the kernel."""

    process: int
    times: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def look(self) -> None:
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        self.times.append(time.time())
        self.processor.append((int(fields[11]) + int(fields[12])) / ticks)
        for line in Path(f"/proc/{self.process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peak_mib = int(line.split()[1]) / 1024

    def processor_at(self, moment: float) -> float:
        """Interpolate."""
        before = max((i for i, at in enumerate(self.times) if at <= moment), default=0)
        after = min(before + 1, len(self.times) - 1)
        span = self.times[after] - self.times[before]
        share = 0.0 if span <= 0 else min(1.0, max(0.0, (moment - self.times[before]) / span))
        return self.processor[before] + share * (self.processor[after] - self.processor[before])


def measure(institutions: int, rounds: int, folder: Path, scratch: Path) -> dict[str, Any]:
    """Run one size and return its figures."""
    run = folder / f"n{institutions}"
    # fmt: off
    command = [
        sys.executable, "-c", "from fedapt_secure.cli import main; main()", "simulate",
        "--clients", str(institutions), "--rounds", str(rounds), "--local-steps", "1", "--out", str(run),
    ]
    # fmt: on
    began = time.time()
    with scratch.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:CORES])
        watch = Watch(process.pid)
        while process.poll() is None:
            try:
                watch.look()
            except (FileNotFoundError, ProcessLookupError, IndexError):
                break
            time.sleep(LOOK_S)
    if process.wait() != 0:
        raise SystemExit(f"n = {institutions} failed:\n{scratch.read_text()[-2000:]}")
    return figures(institutions, run, watch, began)


def figures(institutions: int, run: Path, watch: Watch, began: float) -> dict[str, Any]:
    """Gather what a finished run came to."""
    events = coordinator_events(run / "logs" / "coordinator.jsonl")
    summary = json.loads((run / "summary.json").read_text())
    listening, closing = events[0][0], events[-1][0]
    phases: dict[str, list[tuple[float, float]]] = {name: [] for name in (*PHASES, "round")}
    first_round = next(at for at, kind, _ in events if kind == "round_started")
    begun, phase_begun, phase = 0.0, 0.0, ""
    for at, kind, what in events:
        if kind == "round_started":
            begun = phase_begun = at
            phase = "train"
        elif kind in ("phase", "round_ended"):
            phases[phase].append(_span(watch, phase_begun, at))
            phase_begun, phase = at, what
        if kind == "round_ended":
            phases["round"].append(_span(watch, begun, at))
    done = [one for one in summary["rounds"] if one["status"] == "completed"]
    middle = len(done) // 2
    graph = topology(institutions)
    return {
        "institutions": institutions,
        "drawn": graph.neighbours,
        "around": around(institutions, graph.neighbours),
        "rounds": len(done),
        "contributors": min(len(one["contributors"]) for one in done),
        "values": values_of(run),
        "bytes_up": sorted(one["bytes_up"] for one in done)[middle],
        "bytes_down": sorted(one["bytes_down"] for one in done)[middle],
        "peak_mib": round(watch.peak_mib, 1),
        "disk_mib": round(sum(f.stat().st_size for f in run.rglob("*") if f.is_file()) / MIB, 1),
        "seconds": {name: median([one[0] for one in spans]) for name, spans in phases.items()},
        "processor": {name: median([one[1] for one in spans]) for name, spans in phases.items()},
        "set_up": _span(watch, began, listening),
        "joining": _span(watch, listening, first_round),
        "closing": _span(watch, closing, watch.times[-1]),
        "total": _span(watch, began, watch.times[-1]),
    }


def coordinator_events(log: Path) -> list[tuple[float, str, str]]:
    """Return (time, type, phase) of what divides a run, from the coordinator's log."""
    kinds = {"listening", "round_started", "phase", "round_ended", "closing"}
    entries = LogFollower(log, leave_out=LONG).new_entries()
    return [(e.time.timestamp(), e.type, str(e.body.get("phase", ""))) for e in entries if e.type in kinds]


def around(institutions: int, drawn: int) -> float:
    """Return with how many others an institution shares a mask, in expectation: it drew them or they it."""
    others = institutions - 1
    return others * (1 - (1 - drawn / others) ** 2) if drawn < others else float(others)


def values_of(run: Path) -> int:
    """Return d, the length of the vector that is added up."""
    from fedapt_secure.config.settings import build, read_yaml  # noqa: PLC0415 - after the measurements
    from fedapt_secure.protocol.plan import SessionPlan  # noqa: PLC0415

    path = run / "parties" / "coordinator" / "session.yaml"
    return build(SessionPlan, read_yaml(path), source=str(path)).shape.size


def median(values: list[float]) -> float:
    ordered = sorted(values)
    return round((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2, 3)


def _span(watch: Watch, begin: float, end: float) -> tuple[float, float]:
    return round(end - begin, 3), round(watch.processor_at(end) - watch.processor_at(begin), 3)


@dataclass(frozen=True)
class Machine:
    date: str
    cores: int
    system: str
    python: str
    load_before: float

    @classmethod
    def this(cls) -> "Machine":
        return cls(
            datetime.now(UTC).date().isoformat(),
            CORES,
            f"{platform.system()} {platform.machine()}",
            platform.python_version(),
            round(os.getloadavg()[0], 1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3, help="rounds up to 200 institutions; beyond, one")
    parser.add_argument("--json", type=Path, help="where the figures go; sizes that are there are kept")
    parser.add_argument("--from", dest="source", type=Path, help="measure nothing: take these figures")
    parser.add_argument("--docs", type=Path, help="put the tables into this page, between its marks")
    parser.add_argument("--keep", type=Path, help="keep the run folders in this one")
    arguments = parser.parse_args()
    source: Path | None = arguments.source
    found = _measured(arguments) if source is None else json.loads(source.read_text())
    text = report(found)
    print(text)
    if arguments.docs is not None:
        arguments.docs.write_text(renewed(arguments.docs.read_text(), text))


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    path: Path | None = arguments.json
    found: dict[str, Any] = {"machine": asdict(Machine.this()), "runs": []}
    if path is not None and path.exists():
        found["runs"] = json.loads(path.read_text())["runs"]
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.keep or Path(scratch)
            rounds = arguments.rounds if size <= 200 else 1
            one = measure(size, rounds, folder, Path(scratch) / "output")
            if arguments.keep is None:
                shutil.rmtree(folder / f"n{size}")
        kept = [other for other in found["runs"] if other["institutions"] != size]
        found["runs"] = sorted([*kept, one], key=lambda run: int(run["institutions"]))
        print(json.dumps(one), flush=True)
        if path is not None:
            path.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
