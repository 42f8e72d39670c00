"""Is a GPU's answer right, and how fast is it, against what the GPU can do at best? One command, one report.

    python -m benchmarks.device.gpu --json gpu.json --markdown gpu.md

Parts: the device's measured ceilings; features, gradients and private sums against float64 on the CPU; images
a second; DP steps a second at 10, 65 and 345 classes; routed prediction; the default task in both precisions;
torch.compile against without it. Weights are random where none ship: time does not depend on their values.
``--render gpu.json`` measures nothing and writes the section of docs/benchmarks.md from an earlier run.
A part that fails is reported, and the others go on; the exit status is 1 then, or when a bound is broken.
``--parts compile`` is apart, because compiling takes minutes. ``--tiny`` rehearses on a CPU. No network is
used.
"""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.device import ceilings, encoding, exactness, steps, task
from benchmarks.device.bench import TINY, Bench, Size
from benchmarks.device.report import markdown
from benchmarks.pages import device_page as page
from fedapt_secure.learning.clip.device import resolve_device

PARTS = ("exactness", "steps", "images", "task")
COMPILE = "compile"


def run(bench: Bench, parts: tuple[str, ...]) -> dict[str, Any]:
    """Carry out the parts and return what was found."""
    facts = ceilings.facts(bench)
    print(json.dumps(facts), flush=True)
    peaks = ceilings.measure(bench)
    if "exactness" in parts:
        exactness.check(bench)
    if "steps" in parts:
        steps.measure(bench, peaks)
    if "images" in parts:
        encoding.measure(bench, peaks)
    if "task" in parts:
        with bench.guarded("default task"):
            task.measure(bench)
    if COMPILE in parts:
        encoding.measure_compiled(bench, peaks)
        steps.measure_compiled(bench)
    return _result(bench, facts)


def _result(bench: Bench, facts: dict[str, object]) -> dict[str, Any]:
    rows = [row for some in bench.found.values() for row in some]
    broken = [row for row in rows if row.get("passed") is False]
    return {"facts": facts, "found": bench.found, "faults": bench.faults, "broken_bounds": broken}


def _stop(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--tiny", action="store_true", help="all of the code in seconds; its figures mean nothing"
    )
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=(*PARTS, COMPILE))
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--markdown", type=Path, help="write tables there")
    parser.add_argument("--render", type=Path, metavar="JSON", help="write docs/benchmarks.md's section")
    options = parser.parse_args()
    if options.render is not None:
        page.renew(json.loads(options.render.read_text()))
        return 0
    signal.signal(signal.SIGTERM, _stop)  # a time limit: what was found is written
    bench = Bench(resolve_device(options.device), TINY if options.tiny else Size())
    found: dict[str, Any] = {}
    try:
        found = run(bench, tuple(options.parts))
    finally:  # also what was found before an interrupt
        found = found or _result(bench, ceilings.facts(bench)) | {"cut": True}
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
        if options.markdown is not None:
            options.markdown.write_text(markdown(found))
    print(f"{len(found['faults'])} faults, {len(found['broken_bounds'])} broken bounds")
    return 1 if found["faults"] or found["broken_bounds"] else 0


if __name__ == "__main__":
    sys.exit(main())
