"""A comparison as files: JSON for programs, CSV for spreadsheets, Markdown for documents."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedapt_crypto.private_files import write_atomically
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE
from fedapt_secure.simulate.comparison.figures import Comparison, PublishedFigure, Row, Spread

JSON_FILE, CSV_FILE, MARKDOWN_FILE = "comparison.json", "comparison.csv", "comparison.md"


def write_files(folder: Path, comparison: Comparison) -> None:
    """Write ``comparison.json``, ``.csv`` and ``.md`` into a folder."""
    texts = {
        JSON_FILE: json.dumps(to_fields(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        CSV_FILE: to_csv(comparison),
        MARKDOWN_FILE: to_markdown(comparison),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode(), mode=PUBLIC_FILE_MODE)


def to_fields(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for JSON; accuracies are shares in [0, 1]."""
    return {
        "title": comparison.title,
        "domains": list(comparison.domains),
        "rows": [_row_fields(row) for row in comparison.rows],
        "failed": [
            {"row": label.name, "seed": seed, "reason": reason} for label, seed, reason in comparison.failed
        ],
        "not_run": [{"row": one.label.name, "reason": one.reason} for one in comparison.not_run],
        "notes": list(comparison.notes),
        "published": [asdict(one) | {"difference": one.difference} for one in comparison.published],
    }


def _row_fields(row: Row) -> dict[str, Any]:
    return {
        "row": row.label.name,
        "title": row.label.title,
        "method": row.label.method,
        "epsilon": row.label.epsilon,
        "seeds": list(row.seeds),
        "accuracy": {
            "mean": _spread_fields(row.mean),
            "per_domain": {name: _spread_fields(one) for name, one in row.domains.items()},
            "own_domain": None if row.own_domain is None else _spread_fields(row.own_domain),
        },
        "trained_parameters": row.trained,
        "share_of_model": row.share,
        "bytes_up": row.bytes_up,
        "bytes_down": row.bytes_down,
        "epsilon_spent": row.epsilon_spent,
        "not_private_because": row.not_private_because,
        "seconds": row.seconds,
    }


def _spread_fields(spread: Spread) -> dict[str, float | None]:
    return {"mean": spread.mean, "deviation": spread.deviation}


def to_csv(comparison: Comparison) -> str:
    """Return one line a row; accuracies in per cent, empty where there is no figure."""
    domains, stream = comparison.domains, io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spreads = [part for name in (*domains, "mean", "own domain") for part in (name, f"{name} sd")]
    costs = ("trained_parameters", "share_of_model", "bytes_up", "bytes_down", "epsilon_spent", "seconds")
    writer.writerow(["row", "method", "epsilon", "seeds", *spreads, *costs])
    for row in comparison.rows:
        cells: list[object] = [row.label.name, row.label.method, _plain(row.label.epsilon), len(row.seeds)]
        for spread in (*(row.domains[name] for name in domains), row.mean, row.own_domain):
            cells += ["", ""] if spread is None else [_percent(spread.mean), _percent(spread.deviation)]
        cells += [row.trained, f"{row.share:.3g}", row.bytes_up, row.bytes_down]
        writer.writerow([*cells, _plain(row.epsilon_spent), f"{row.seconds:.1f}"])
    return stream.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """Return a table for documents, with what was not run below it."""
    domains, with_own = comparison.domains, any(row.own_domain is not None for row in comparison.rows)
    own = ("own domain",) if with_own else ()
    head = ("method", "ε", *domains, "mean", *own, *COST_COLUMNS)
    lines = [f"{comparison.title}.", "", _line(head), _line(["---", "---", *["---:"] * (len(head) - 2)])]
    for row in comparison.rows:
        spreads = [*(row.domains[name] for name in domains), row.mean]
        cells = [row.label.title, row.label.budget, *(with_deviation(one) for one in spreads)]
        if with_own:
            cells.append("" if row.own_domain is None else with_deviation(row.own_domain))
        lines.append(_line([*cells, *cost_cells(row)]))
    lines += ["", *remarks(comparison)]
    if comparison.published:
        lines += ["Published beside ours, in per cent and points:", "", _line(PUBLISHED_COLUMNS)]
        lines.append(_line(["---", "---", *["---:"] * 3, "---"]))
        lines += [_line([*published_cells(one), one.source]) for one in comparison.published]
    return "\n".join(lines).rstrip() + "\n"


PUBLISHED_COLUMNS = ("method", "domain", "published", "ours", "difference", "where")


def published_cells(one: PublishedFigure) -> tuple[str, ...]:
    """Return the cells of `PUBLISHED_COLUMNS` but for the last."""
    return one.title, one.what, f"{one.published:.1f}", f"{one.ours:.1f}", f"{one.difference:+.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


COST_COLUMNS = ("trained", "share", "up", "down", "ε spent")


def cost_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of `COST_COLUMNS`."""
    nothing = row.bytes_up == row.bytes_down == 0
    return (
        f"{row.trained:,}",
        f"{row.share:.2%}" if row.trained else "0",
        "-" if nothing else _size(row.bytes_up),
        "-" if nothing else _size(row.bytes_down),
        _spent(row),
    )


def _spent(row: Row) -> str:
    if row.epsilon_spent is None:
        return "∞"
    if row.not_private_because is not None:
        return "NOT PRIVATE"
    return f"{row.epsilon_spent:.2f}" if row.epsilon_spent else "0"


def with_deviation(spread: Spread, *, shortened: bool = False) -> str:
    """Return a share in per cent, ``71.3 ± 1.2`` over several seeds unless that is too long."""
    if spread.deviation is None or shortened:
        return f"{100 * spread.mean:.1f}"
    return f"{100 * spread.mean:.1f} ± {100 * spread.deviation:.1f}"


def remarks(comparison: Comparison) -> list[str]:
    """Return what has to be said below the table, a sentence each."""
    rows, said = comparison.rows, []
    seeds = {row.seeds for row in rows}
    if seeds:
        most = max(len(one) for one in seeds)
        over = f"mean ± standard deviation over {most} seeds" if most > 1 else "one seed"
        where = "all images of a domain that took no part" if comparison.unseen else "held-out images"
        said.append(f"Accuracy in per cent on {where}, {over}; up and down: an institution a round.")
    if any(row.own_domain is not None for row in rows):
        said.append(
            "local: average over the institutions' models; own domain: each model on its own institution's"
            " images."
        )
    if any(row.epsilon_spent for row in rows):
        said.append(
            "ε spent is one run's, the largest of all institutions; whoever really runs several of these on"
            " the same images spends their sum."
        )
    said += comparison.notes
    said += [f"Not run: {one.label}: {one.reason}." for one in comparison.not_run]
    said += [f"FAILED: {label}, seed {seed}: {reason}" for label, seed, reason in comparison.failed]
    return [f"{one}\n" for one in said]


def _size(count: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
