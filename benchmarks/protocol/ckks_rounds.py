"""Measure a round under CKKS between both sides' machines: time by party, bytes, and how far the sum is off.

Run with ``python -m benchmarks.protocol.ckks_rounds``; needs TenSEAL (``pip install 'fedapt-secure[ckks]'``).
To compare two versions, run it in both in turns.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fedapt_crypto.secagg import registry
from tests.crypto.secagg.harness import World


def one_round(institutions: int, length: int, clip: float, deviation: float) -> dict[str, float]:
    """Play a round and return its figures.

    Args:
        institutions: How many take part.
        length: Values of an update.
        clip: The clip range.
        deviation: Of the updates' normal values.
    """
    world = World(institutions, registry.CKKS, length=length, clip=clip)
    rng = np.random.default_rng(7)
    for update in world.updates.values():
        update[:] = rng.normal(0, deviation, length)
    names, took = list(world.institutions), {"institution": 0.0, "coordinator": 0.0}
    with timed(took, "institution"):
        payloads = {name: world.institutions[name].start().payload for name in names}
    size = len(payloads[names[0]])
    for _ in range(2):
        with timed(took, "coordinator"):
            for name in names:
                world.coordinator.receive(name, payloads[name])
            delivered = world.coordinator.close_phase()
        with timed(took, "institution"):
            answers = {name: world.institutions[name].receive(delivered[name]) for name in names}
        payloads = {name: answer.payload for name, answer in answers.items() if answer is not None}
    total = world.institutions[names[0]].aggregate
    assert total is not None
    off = total.total - np.sum(list(world.updates.values()), axis=0)
    return {
        "institution_s": took["institution"] / institutions,
        "coordinator_s": took["coordinator"],
        "update_bytes": size,
        "off_deviation": float(off.std()),
        "off_most": float(np.abs(off).max()),
    }


@contextmanager
def timed(took: dict[str, float], whose: str) -> Iterator[None]:
    """Add the time that something takes."""
    before = time.perf_counter()
    yield
    took[whose] += time.perf_counter() - before


def main() -> None:
    """Print the figures of each repeat, and their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--institutions", type=int, default=5)
    parser.add_argument("--values", type=int, default=100_000)
    parser.add_argument("--clip", type=float, default=4.0)
    parser.add_argument("--deviation", type=float, default=0.01)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    one_round(3, 10, 4.0, 1.0)  # starts the workers
    rounds = [
        one_round(options.institutions, options.values, options.clip, options.deviation)
        for _ in range(options.repeats)
    ]
    for name in rounds[0]:
        print(f"{name:15} {statistics.median(each[name] for each in rounds):12.4g}")


if __name__ == "__main__":
    main()
