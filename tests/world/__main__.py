"""``python -m tests.world``: play very many schedules, say what happened in them, shrink what fails."""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import get_args

from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import EVERYBODY, Participation
from tests.world.campaign import AUDITED_EVERY, LYING_SHARE, Figures, Setting, Stopwatch, run_seeds, shrink

SEEDS_AT_ONCE = 50
MAX_SHRUNK = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many (default: 10,000)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the first one's seed; the others follow (default: 0)"
    )
    parser.add_argument("--scheme", choices=(registry.MASKING, registry.CKKS), default=registry.MASKING)
    parser.add_argument("--institutions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--participation", choices=get_args(Participation), default=EVERYBODY)
    parser.add_argument(
        "--audited-every",
        type=int,
        default=AUDITED_EVERY,
        help=f"audit every such schedule's logs (default: {AUDITED_EVERY}; 1 audits all)",
    )
    parser.add_argument(
        "--lying",
        type=float,
        help=f"share of schedules in which the coordinator lies (default: {LYING_SHARE} with masking, all"
        " taking part and four institutions or more; else 0)",
    )
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    usual = (chosen.scheme, chosen.participation) == (
        registry.MASKING,
        EVERYBODY,
    ) and chosen.institutions >= 4
    lying = (LYING_SHARE if usual else 0.0) if chosen.lying is None else chosen.lying
    setting = Setting(chosen.scheme, chosen.institutions, chosen.rounds, chosen.participation, lying)
    seeds = range(chosen.seed, chosen.seed + chosen.schedules)
    figures = _run(seeds, setting, chosen.processes, chosen.audited_every)
    print(figures.table())
    for failure in figures.failures:
        print(f"seed {failure.seed}: {failure.error}")
    for failure in figures.failures[:MAX_SHRUNK]:
        print(f"seed {failure.seed}, shrunk: {list(shrink(failure, setting))}")
    return 1 if figures.failures else 0


def _run(seeds: range, setting: Setting, processes: int, audited_every: int) -> Figures:
    parts = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, len(seeds), SEEDS_AT_ONCE)]
    figures, watch = Figures(), Stopwatch(len(seeds))
    # Fresh interpreters: a forked one would inherit the threads of libraries half-way.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for done in as_completed([pool.submit(run_seeds, part, setting, audited_every) for part in parts]):
            figures.add(done.result())
            line = watch.line(figures)
            if line is not None:
                print(line, file=sys.stderr, flush=True)
    print(f"{figures.schedules:,} schedules in {watch.elapsed_s:.0f} s, {len(figures.failures)} failed")
    return figures


if __name__ == "__main__":
    sys.exit(main())
