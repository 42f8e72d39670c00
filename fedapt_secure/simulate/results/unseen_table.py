"""Tables of what models do on a domain that took no part: of one run, and of several methods over domains."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table


def unseen_table(unseen: Mapping[str, Any], title: str) -> Table:
    """Return the table of one run.

    Args:
        unseen: What `UnseenScores.to_fields` gives.
        title: What tables call the method.
    """
    table = Table(title=f"Accuracy on {escape(unseen['domain'])}, which took no part")
    for column in ("images", "number", "zero-shot", escape(title), "gain", "top-5"):
        table.add_column(column, justify="left" if column == "images" else "right")
    for name, part in (("all of them", "all"), ("held-out part", "held_out")):
        one = unseen[part]
        shares = [f"{one[figure]:.1%}" for figure in ("zero_shot", "top_1", "top_5")]
        gain = f"{100 * (one['top_1'] - one['zero_shot']):+.1f}"
        table.add_row(name, str(one["images"]), *shares[:2], gain, shares[2])
    if unseen["routing_counts"]:
        total = max(1, sum(unseen["routing_counts"].values()))
        routed = sorted(unseen["routing_counts"].items(), key=lambda pair: -pair[1])
        table.caption = "routed to: " + escape(
            ", ".join(f"{key} {count / total:.0%}" for key, count in routed)
        )
    return table


def unseen_by_method(accuracies: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the table of unseen domain by method, with the mean over domains.

    Args:
        accuracies: Column title to unseen domain to accuracy on all its images, in [0, 1]; each column with
            the same domains.
    """
    table = Table(title="Accuracy on the domain that took no part (all its images)")
    table.add_column("unseen domain")
    for title in accuracies:
        table.add_column(escape(title), justify="right")
    columns = list(accuracies.values())
    for domain in columns[0]:
        table.add_row(escape(domain), *(f"{one[domain]:.1%}" for one in columns))
    table.add_section()
    table.add_row("[bold]mean", *(f"{mean_of(one):.1%}" for one in columns))
    return table


def mean_of(by_domain: Mapping[str, float]) -> float:
    """Return the mean over domains, each with equal weight."""
    return sum(by_domain.values()) / len(by_domain)
