"""What a sum gives away in FedAPT, where an institution is alone with its key.

    python -m benchmarks.attacks.separate_sums
    python -m benchmarks.attacks.separate_sums --only fitted --seeds 20 --evaluations 200 --json found.json
    python -m benchmarks.attacks.separate_sums --only fitted-five --seeds 20 --rounds 4

Institutions train the digits on the shipped CLIP, their updates are added up as fixed-point numbers, and an
attacker who sees each round's model and sum estimates each institution's update of the prompt. Shown is the
correlation with the true one, the median over seeds and rounds, for each institution. The sum itself,
untouched, correlates as well: an estimate is worth what it has beyond that.

The attack is a plain one; what it does not get, a better one may.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.attacks.federation import Federation, Members, Round, draw_keys
from benchmarks.attacks.key_fit import fit_keys, matched, random_start
from benchmarks.attacks.row_spaces import correlation, take_apart, without_mean
from benchmarks.harness import Table, machine
from benchmarks.learning.federated_loop import AS_BEFORE, Trial
from fedapt_secure.learning.methods.settings import DEFAULT_LEARNING_RATE, DEFAULT_LOCAL_STEPS
from fedapt_secure.protocol.methods import FEDAPT, PROMPTFL

SEEDS: Final = (20, 21, 22)
ROUNDS: Final = 3
EVALUATIONS: Final = 60
EPSILON: Final = 8.0
SMALL: Final = DEFAULT_LEARNING_RATE / 10
TINY: Final = DEFAULT_LEARNING_RATE / 100
RIDGE: Final = 0.1
FIT_RIDGE: Final = 0.01
LATER: Final = 9
"""Rounds after which prompts are long and updates short, so that four large steps are nearer to one."""
ALL_KEYS: Final = "all keys"
GUESSED: Final = "guessed keys"
OWN_KEY: Final = "one institution's key and update"
NO_KEYS: Final = "that there are no keys"
NOTHING: Final = "nothing more: fits keys"
COLLUDER: Final = 0
REPORT_EVERY: Final = 20


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        group: What ``--only`` calls it.
        knows: What the attacker has besides models and sums.
        members: Who takes part.
        local_steps: Steps between two rounds.
        learning_rate: Their size; the default is large.
        epsilon: Of differential privacy; ``None`` for none.
        context_tokens: n_ctx.
        ridge: Of the attack; see `row_spaces`.
        skipped: Rounds that are trained and not looked at.
    """

    group: str
    knows: str
    members: Members
    local_steps: int = 1
    learning_rate: float = DEFAULT_LEARNING_RATE
    epsilon: float | None = EPSILON
    context_tokens: int = 8
    ridge: float = 0.0
    skipped: int = 0

    @property
    def trained(self) -> str:
        """How the institutions train, for a table."""
        steps = "1 step" if self.local_steps == 1 else f"{self.local_steps} steps"
        changed = {SMALL: ", a tenth as large", TINY: ", a hundredth as large"}
        tokens = "" if self.context_tokens == 8 else f", {self.context_tokens} context tokens"
        later = f", after {self.skipped} rounds" if self.skipped else ""
        return steps + changed.get(self.learning_rate, "") + tokens + later

    @property
    def attack(self) -> str:
        """What the attacker knows and does, for a table."""
        return self.knows + (", ridge" if self.ridge else "")


@dataclass(frozen=True)
class Found:
    """One round taken apart, or medians of several; lists have an entry for each institution.

    Attributes:
        update: Correlation of the estimate with the institution's update.
        sum_alone: That of the sum itself: what an estimate has to exceed.
        key_sum: That of the estimate with the sum of all who hold the institution's key.
        apart: That of what tells members of one key apart; empty where each is alone with its key.
    """

    update: list[float]
    sum_alone: list[float]
    key_sum: list[float]
    apart: list[float]


def settings(epsilon: float | None) -> list[Setting]:
    """Return the rows of the table, first those with noise, then those without; fits are last."""
    five, alone = Members(), Members(institutions=2, keys=2)
    default = DEFAULT_LOCAL_STEPS
    with_noise = [
        Setting("known", ALL_KEYS, five),
        Setting("known", ALL_KEYS, five, default, TINY),
        Setting("known", ALL_KEYS, five, default, SMALL),
        Setting("known", ALL_KEYS, five, default, SMALL, ridge=RIDGE),
        Setting("known", ALL_KEYS, five, default),
        Setting("known", ALL_KEYS, five, default, ridge=RIDGE),
        Setting("known", ALL_KEYS, five, default, ridge=RIDGE, skipped=LATER),
        Setting("known", ALL_KEYS, five, context_tokens=4),
        Setting("shared", ALL_KEYS, Members(institutions=6, keys=3)),
        Setting("shared", ALL_KEYS, Members(institutions=6, keys=2)),
        Setting("shared", ALL_KEYS, Members(institutions=6, keys=3), default, ridge=RIDGE, skipped=LATER),
        Setting("guessed", GUESSED, five),
        Setting("colluder", OWN_KEY, five),
        Setting("promptfl", NO_KEYS, Members(PROMPTFL)),
        Setting("promptfl", NO_KEYS, Members(PROMPTFL), default, ridge=RIDGE, skipped=LATER),
        Setting("promptfl", GUESSED, Members(PROMPTFL)),
    ]
    fits = [Setting("fitted", NOTHING, alone)]
    rows = [replace(one, epsilon=noise) for noise in (epsilon, None) for one in with_noise]
    rows += [replace(one, epsilon=noise) for noise in (epsilon, None) for one in fits]
    return [*rows, Setting("fitted-five", NOTHING, five, epsilon=epsilon, ridge=FIT_RIDGE)]


GROUPS: Final = tuple(dict.fromkeys(one.group for one in settings(EPSILON)))
BY_DEFAULT: Final = tuple(one for one in GROUPS if one != "fitted-five")


@cache
def watched(setting: Setting, seed: int, count: int) -> tuple[Federation, list[Round]]:
    """Return a federation and its first rounds, whatever the attacker knows of them."""
    fields = {
        "seed": seed,
        "epsilon": setting.epsilon,
        "local_steps": setting.local_steps,
        "learning_rate": setting.learning_rate,
        "context_tokens": setting.context_tokens,
    }
    trial = Trial(**AS_BEFORE | fields)
    federation = Federation(setting.members, trial)
    return federation, federation.rounds(count, setting.skipped)


def attack(
    setting: Setting, seed: int, rounds: int, evaluations: int, report: Callable[[str], None]
) -> list[Found]:
    """Take the first rounds of one session apart.

    Args:
        setting: The session, and what the attacker knows.
        seed: Of data, keys, start and noise.
        rounds: How many rounds are watched; a fit looks at all their sums together.
        evaluations: Of a fit.
        report: Takes a line about a fit's progress.
    """
    federation, seen = watched(replace(setting, group="", knows="", ridge=0.0), seed, rounds)
    count = setting.members.institutions
    if setting.knows == OWN_KEY:
        return [_without_colluder(federation, one) for one in seen]
    order: Sequence[int] = range(count)
    if setting.knows == GUESSED:
        keys = draw_keys(replace(federation.shape, domains=count), np.random.default_rng([seed, 2]))
    elif setting.knows == NOTHING:
        keys = _fitted(federation, seen, seed, evaluations, setting.ridge, report)
        order = matched(
            [take_apart(federation.text, one.prompt, one.total, keys, setting.ridge) for one in seen],
            [one.updates for one in seen],
        )
    else:
        keys = federation.own_keys
    found = []
    for one in seen:
        estimates = take_apart(federation.text, one.prompt, one.total, keys, setting.ridge)
        found.append(compared(estimates[list(order)], one.updates, one.total, federation.groups))
    return found


def _fitted(
    federation: Federation,
    seen: Sequence[Round],
    seed: int,
    evaluations: int,
    ridge: float,
    report: Callable[[str], None],
) -> Tensor:
    def progress(number: int, left: float) -> None:
        if number % REPORT_EVERY == 0:
            report(
                f"seed {seed}: {number} of {evaluations} evaluations, {left:.1e} of the squares unexplained"
            )

    start = random_start(
        len(federation.own_keys), federation.shape.key, torch.Generator().manual_seed(1000 + seed)
    )
    return fit_keys(federation.text, seen, start, evaluations, ridge, progress)


def _without_colluder(federation: Federation, one: Round) -> Found:
    """Return what an institution finds that takes its own update off, and has its own key only."""
    rest = one.total - one.updates[COLLUDER]
    others = [number for number in range(len(one.updates)) if number != COLLUDER]
    keys = federation.own_keys[[COLLUDER] * len(others)]
    estimates = take_apart(federation.text, one.prompt, rest, keys)
    return compared(estimates, one.updates[others], rest, [federation.groups[number] for number in others])


def compared(estimates: Tensor, updates: Tensor, total: Tensor, groups: Sequence[int]) -> Found:
    """Return how close a round's estimates (n, M, n_ctx·W) come to the true updates, alike.

    Args:
        estimates: Of each institution's update.
        updates: What was estimated.
        total: The sum that the attacker saw.
        groups: Who has the same key, one number for each institution.
    """
    members = torch.tensor(list(groups))
    pairs = [(estimates[members == group], updates[members == group]) for group in groups]
    shared = len(set(groups)) < len(groups)
    apart = zip(without_mean(estimates, groups), without_mean(updates, groups), strict=True)
    return Found(
        update=[correlation(one, other) for one, other in zip(estimates, updates, strict=True)],
        sum_alone=[correlation(total, other) for other in updates],
        key_sum=[correlation(one.sum(dim=0), other.sum(dim=0)) for one, other in pairs],
        apart=[correlation(one, other) for one, other in apart] if shared else [],
    )


def medians(found: Sequence[Found]) -> Found:
    """Return the median of each institution's figures."""

    def each(name: str) -> list[float]:
        return [
            statistics.median(column) for column in zip(*(getattr(one, name) for one in found), strict=True)
        ]

    return Found(each("update"), each("sum_alone"), each("key_sum"), each("apart"))


COLUMNS: Final = (
    "the attacker knows, does",
    "institutions / keys",
    "training",
    "ε",
    "estimate and update, for each institution",
    "sum and update",
    "estimate and sum of a key",
    "members of a key told apart",
)


def row(setting: Setting, found: Found) -> list[str]:
    """Return the cells of one setting; all but the first figures are the largest of all institutions."""
    keys = str(setting.members.keys) if setting.members.method == FEDAPT else "none (PromptFL)"
    return [
        setting.attack,
        f"{setting.members.institutions} / {keys}",
        setting.trained,
        "none" if setting.epsilon is None else f"{setting.epsilon:g}",
        " ".join(f"{value:.3f}" for value in found.update),
        f"{max(found.sum_alone):.3f}",
        f"{statistics.median(found.key_sum):.3f}" if found.apart else "",
        f"{max(found.apart, key=abs):.3f}" if found.apart else "",
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=GROUPS,
        default=list(BY_DEFAULT),
        help="which settings (all but fitted-five)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="0 to 255 each (20 21 22)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds that are watched (3)")
    parser.add_argument("--epsilon", type=float, default=EPSILON, help="of those with noise (8)")
    parser.add_argument(
        "--evaluations", type=int, default=EVALUATIONS, help="how often a fit looks at the sums (60)"
    )
    parser.add_argument("--few-shot", type=int, help="training images a class at each institution (all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    options = parser.parse_args()
    if min(options.rounds, options.evaluations) < 1 or not all(0 <= one <= 255 for one in options.seeds):
        parser.error("rounds and evaluations are at least 1, seeds 0 to 255")
    return options


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    chosen = [one for one in settings(options.epsilon) if one.group in options.only]
    chosen = [replace(one, members=replace(one.members, few_shot=options.few_shot)) for one in chosen]
    began, table, kept = time.perf_counter(), Table("", list(COLUMNS)), []

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def all_seeds(setting: Setting) -> list[Found]:
        found = []
        for seed in options.seeds:
            found += attack(setting, seed, options.rounds, options.evaluations, say)
        return found

    for number, setting in enumerate(chosen, start=1):
        found = all_seeds(setting)
        summary = medians(found)
        table.rows.append(row(setting, summary))
        kept.append(
            {"setting": asdict(setting), "medians": asdict(summary), "rounds": [asdict(one) for one in found]}
        )
        say(f"{number} of {len(chosen)}: {' | '.join(cell for cell in table.rows[-1] if cell)}")
    facts = machine()
    print(table.markdown())
    print(f"\n{', '.join(facts.values())}; {time.perf_counter() - began:.0f} s")
    if options.json is not None:
        found_all = {"settings": kept, "seeds": options.seeds, "rounds": options.rounds, "machine": facts}
        options.json.write_text(json.dumps(found_all, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
