"""Runs that leave a domain out each, joined to one a seed: accuracy on what took no part."""

from collections.abc import Iterable, Sequence
from typing import Any

from fedapt_secure.simulate.comparison.cases import Case
from fedapt_secure.simulate.results.summary import Summary
from fedapt_secure.simulate.results.unseen_table import mean_of


def joined(done: Iterable[tuple[Case, Summary]], domains: Sequence[str]) -> list[tuple[int, Summary]]:
    """Return seed and summary, one a seed: of the runs that left out each of the domains.

    A seed in which one of them is missing is left out: its mean would be over other domains.

    Args:
        done: Finished runs of one row.
        domains: All that are left out in turn.
    """
    by_seed: dict[int, dict[str, Summary]] = {}
    for case, summary in done:
        by_seed.setdefault(case.settings.seed, {})[str(case.settings.unseen_domain)] = summary
    return [
        (seed, _one([found[domain] for domain in domains], domains))
        for seed, found in by_seed.items()
        if set(domains) <= found.keys()
    ]


def _one(summaries: Sequence[Summary], domains: Sequence[str]) -> Summary:
    first = summaries[0]
    on_unseen: dict[str, float] = {
        domain: one["unseen"]["all"]["top_1"] for domain, one in zip(domains, summaries, strict=True)
    }
    spent: dict[str, Any] = {
        f"{domain}/{name}": party
        for domain, one in zip(domains, summaries, strict=True)
        for name, party in one["privacy"].items()
    }
    return first | {
        "accuracy": {first["method"]: {"mean": mean_of(on_unseen), "per_domain": on_unseen}},
        "own_domain": None,
        "privacy": spent,
        "rounds": [entry for one in summaries for entry in one["rounds"]],
    }
