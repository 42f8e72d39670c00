"""Measure the sum tag beside one mask of the same size: what proving a sum adds to hiding its summands.

    python -m benchmarks.protocol.sum_tag [--quick] [--json FILE]

Contenders take turns in one process, so that a busy machine slows all of them; figures are medians of the
turns. That the fast tag is that of Python's integers is checked, on a part, before its time counts.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.harness import Spread, Table, figure, in_turns, machine, ratios
from fedapt_crypto.kdf import derive
from fedapt_crypto.keystream import Keystream
from fedapt_crypto.masks import apply_masks
from fedapt_crypto.sum_tag import PRIME, ROW_VALUES, SumCheck, next_model

VALUES, QUICK_VALUES = 4_200_000, 10_000
REPEATS, QUICK_REPEATS = 15, 1
CHECKED_VALUES = 10_000
AIM = 2.0
"""A tag takes at most twice as long as one mask: a few milliseconds, where a mask takes three."""
NAMES = ("clinic-1", "clinic-2", "clinic-3")
LIMIT = (2**31 - 1) // len(NAMES)
FIXED = bytes(32)
MASK, TAG = "one mask", "tag"


def signed_values(size: int) -> np.ndarray:
    """Return words of signed integers up to ±B."""
    drawn = Keystream(FIXED).uniform_words(size, np.uint32)
    return (drawn % np.uint32(2 * LIMIT + 1)) - np.uint32(LIMIT)


def slow_tag(vector: np.ndarray) -> int:
    """Return the first institution's tag by Python's integers."""

    def elements(label: str, count: int) -> list[int]:
        words = Keystream(derive(FIXED, label, FIXED, FIXED)).uniform_words(count).tolist()
        return [word >> 3 for word in words]

    u = elements("sum check rows", -(-vector.size // ROW_VALUES))
    v = elements("sum check columns", ROW_VALUES)
    pad = int.from_bytes(derive(FIXED, "sum check pad", FIXED, FIXED, NAMES[0], length=16))
    values = vector.view(np.int32).tolist()
    return (sum(u[j // ROW_VALUES] * v[j % ROW_VALUES] * x for j, x in enumerate(values)) + pad) % PRIME


def measure(size: int, repeats: int) -> dict[str, list[float]]:
    """Return each contender's seconds, turn by turn."""
    update = signed_values(size)
    part = update[: min(size, CHECKED_VALUES)]
    if SumCheck(FIXED, FIXED, FIXED, length=part.size).tag(NAMES[0], part) != slow_tag(part):
        raise SystemExit("the fast tag is not that of Python's integers: no figures")
    check = SumCheck(FIXED, FIXED, FIXED, length=size)
    tag = sum(check.tag(name, update) for name in NAMES) % PRIME
    total, masked = update * np.uint32(len(NAMES)), update.copy()
    model = np.linspace(-1, 1, size, dtype=np.float32)
    contenders: dict[str, Callable[[], object]] = {
        MASK: lambda: apply_masks(masked, [(FIXED, 1)]),
        "keys of a check": lambda: SumCheck(FIXED, FIXED, FIXED, length=size),
        TAG: lambda: check.tag(NAMES[0], update),
        "verify": lambda: check.verify(total, tag, NAMES, limit=LIMIT),
        "next model": lambda: next_model(model, total, survivors=len(NAMES), fraction_bits=29),
    }
    return in_turns(contenders, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the sum tag beside one mask.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    options = parser.parse_args()
    size, repeats = (QUICK_VALUES, QUICK_REPEATS) if options.quick else (VALUES, REPEATS)
    seconds = measure(size, repeats)
    spreads = {name: Spread.of(each) for name, each in seconds.items()}
    table = Table(f"{size:,} values, {repeats} turns", ["what", "ms", "times one mask"])
    for name, each in seconds.items():
        table.rows.append([name, spreads[name].text(1000), ratios(each, seconds[MASK]).text()])
    print(table.markdown())
    times = ratios(seconds[TAG], seconds[MASK]).median
    verdict = "too small to tell" if options.quick else "met" if times <= AIM else "missed"
    tag, mask = (figure(spreads[name].median * 1000) for name in (TAG, MASK))
    print(f"\ntag {tag} ms, one mask {mask} ms: {figure(times)} times, aim at most {figure(AIM)}: {verdict}")
    if options.json is not None:
        found = {"values": size, "spreads": {name: asdict(each) for name, each in spreads.items()}}
        options.json.write_text(json.dumps(found | {"machine": machine()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
