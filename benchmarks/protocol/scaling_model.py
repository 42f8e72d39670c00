"""A cost model fitted to what `scaling.py` measured, the tables made of both, and what they predict.

n institutions, each sharing masks with m others (n - 1, or about 2k of those k it draws), d values:

* processor seconds of all parties in a round:  n (a + b m) + c n²
* bytes a round of one institution:             4 d + e + f m + g k up, the same and h n down
* peak memory of the process:                   M + n (u + v m) + w n²

Coefficients are not negative and minimise relative errors (Lawson and Hanson's NNLS).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from fedapt_crypto.secagg.masking.graph import topology

BEGIN, END = "<!-- measured: benchmarks/protocol/scaling.py -->", "<!-- end -->"
RUN_COLUMNS = (
    "n", "k", "s a round", "processor s a round", "MiB up", "MiB down", "s before", "peak MiB", "disk MiB",
)  # fmt: skip
PREDICTION_COLUMNS = (
    "n", "d", "k", "processor s a round", "of one institution alone, ms", "MiB up each", "MiB down each",
    "GiB in one process",
)  # fmt: skip
PHASES = ("train", "share", "masked_input", "consistency", "unmask")
"""What the coordinator waits for: the first is training and the advertisements of fresh keys."""
MIB, KIB = 1 << 20, 1 << 10
FEATURES: dict[str, tuple[str, Callable[[float, float, float], float]]] = {
    "1": ("", lambda n, m, k: 1.0),
    "n": ("n", lambda n, m, k: n),
    "m": ("m", lambda n, m, k: m),
    "k": ("k", lambda n, m, k: k),
    "nm": ("n m", lambda n, m, k: n * m),
    "nn": ("n²", lambda n, m, k: n * n),
}
SIGNATURE_S = 1e-4
Runs = Sequence[dict[str, Any]]


def fitted(runs: Runs, measured: Callable[[dict[str, Any]], float], terms: Sequence[str]) -> dict[str, float]:
    """Return one coefficient a term."""
    target = np.array([measured(run) for run in runs])
    design = np.array([[FEATURES[term][1](*_size(run)) for term in terms] for run in runs])
    weighted = design / target[:, None]
    scale = np.abs(weighted).max(axis=0)
    solution, _ = nnls(weighted / scale, np.ones(len(runs)))
    return dict(zip(terms, solution / scale, strict=True))


def _size(run: dict[str, Any]) -> tuple[float, float, float]:
    return run["institutions"], run["around"], run["drawn"]


def value_of(model: dict[str, float], n: float, m: float, k: float) -> float:
    return sum(coefficient * FEATURES[term][1](n, m, k) for term, coefficient in model.items())


def worst(runs: Runs, measured: Callable[[dict[str, Any]], float], model: dict[str, float]) -> float:
    """Return the largest relative error."""
    return max(abs(value_of(model, *_size(r)) / measured(r) - 1) for r in runs)


def exponent(runs: Runs, measured: Callable[[dict[str, Any]], float]) -> float:
    """Return p of the power law n^p through all sizes."""
    x = np.log([run["institutions"] for run in runs])
    return float(np.polyfit(x, np.log([max(1e-9, measured(run)) for run in runs]), 1)[0])


MODELS: dict[str, tuple[str, Callable[[dict[str, Any]], float], tuple[str, ...], float, str]] = {
    "processor": (
        "processor s of a round, all parties",
        lambda r: r["processor"]["round"],
        ("n", "nm", "nn"),
        1e-3,
        "ms",
    ),
    "set_up": (
        "processor s before the first round, beyond those of the start",
        lambda r: r["set_up"][1] + r["joining"][1],
        ("1", "n", "nn"),
        1e-3,
        "ms",
    ),
    "up": (
        "bytes up of an institution, less 4 d",
        lambda r: r["bytes_up"] / r["institutions"] - 4 * r["values"],
        ("1", "m", "k"),
        1,
        "B",
    ),
    "down": (
        "bytes down to an institution, less 4 d",
        lambda r: r["bytes_down"] / r["institutions"] - 4 * r["values"],
        ("1", "m", "k", "n"),
        1,
        "B",
    ),
    "memory": (
        "peak memory of the process",
        lambda r: r["peak_mib"] * MIB,
        ("1", "n", "nm", "nn"),
        KIB,
        "KiB",
    ),
}


def models(runs: Runs) -> dict[str, dict[str, float]]:
    return {name: fitted(runs, measured, terms) for name, (_, measured, terms, _, _) in MODELS.items()}


def report(found: dict[str, Any]) -> str:
    """Return all tables as they stand in the docs."""
    runs, machine = found["runs"], found["machine"]
    lines = [
        f"{machine['date']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']};"
        f" load of other work when it began: {machine['load_before']}. d = {runs[0]['values']:,} values.",
        "",
        *_table(
            (
                "n",
                "k",
                "s a round",
                "processor s a round",
                "MiB up",
                "MiB down",
                "s before",
                "peak MiB",
                "disk MiB",
            ),
            [
                (
                    f"{r['institutions']:,}",
                    f"{r['drawn']}",
                    f"{r['seconds']['round']:.1f}",
                    f"{r['processor']['round']:.1f}",
                    f"{r['bytes_up'] / MIB:.1f}",
                    f"{r['bytes_down'] / MIB:.1f}",
                    f"{r['set_up'][0] + r['joining'][0]:.0f}",
                    f"{r['peak_mib']:,.0f}",
                    f"{r['disk_mib']:,.0f}",
                )
                for r in runs
            ],
        ),
        "",
        "Processor seconds of one round by phase, all parties together:",
        "",
        *_table(
            (
                "n",
                "train, advertise",
                "share",
                "masked input",
                "consistency",
                "unmask",
                "of one institution, ms",
            ),
            [
                (
                    f"{r['institutions']:,}",
                    *(
                        f"{r['processor'][p]:.2f}"
                        for p in ("train", "share", "masked_input", "consistency", "unmask")
                    ),
                    f"{1000 * r['processor']['round'] / r['institutions']:.0f}",
                )
                for r in runs
            ],
        ),
    ]
    if len(runs) < 4:
        return "\n".join(lines)
    return "\n".join(
        [*lines, "", "The fit:", "", *_fit(runs), "", "What it predicts:", "", *_predictions(runs)]
    )


def _fit(runs: Runs) -> list[str]:
    rows = []
    found = models(runs)
    for name, (title, measured, terms, unit, symbol) in MODELS.items():
        formula = " + ".join(
            f"{found[name][term] / unit:.4g} {symbol}{' · ' + FEATURES[term][0] if FEATURES[term][0] else ''}"
            for term in terms
            if found[name][term] > 0
        )
        rows.append(
            (title, formula, f"{worst(runs, measured, found[name]):.0%}", f"{exponent(runs, measured):.2f}")
        )
    return _table(("what", "formula", "largest error", "exponent in n"), rows)


def _predictions(runs: Runs) -> list[str]:
    values, many = runs[0]["values"], 10_000_000
    sizes = ((1_000, values), (1_000, many), (4_096, values), (10_000, values), (10_000, many))
    return _table(PREDICTION_COLUMNS, [_predicted(models(runs), values, n, d) for n, d in sizes])


def _predicted(found: dict[str, dict[str, float]], measured: int, n: int, d: int) -> tuple[str, ...]:
    k = topology(n).neighbours
    m = (n - 1) * (1 - (1 - k / (n - 1)) ** 2)
    more = d - measured
    value = {name: value_of(model, n, m, k) for name, model in found.items()}
    processor = value["processor"] + n * seconds_of_values(m, more)
    return (
        f"{n:,}",
        f"{d:,}",
        f"{k}",
        f"{processor:,.0f}",
        f"{1000 * alone(processor, n, m, k):,.0f}",
        f"{(value['up'] + 4 * d) / MIB:,.2f}",
        f"{(value['down'] + 4 * d) / MIB:,.2f}",
        f"{(value['memory'] + 12 * n * more) / (1 << 30):,.1f}",
    )


def alone(processor: float, n: float, m: float, k: float) -> float:
    """Return the processor seconds of one institution that shares no results with others.

    Its part of the whole, and every signature: advertisements, headers, survivors and heads of all logs.
    """
    return processor / n + SIGNATURE_S * (2 * m + k + 1 + n)


def seconds_of_values(m: float, d: float) -> float:
    """Return what ``d`` values cost one institution and the coordinator on its behalf.

    m + 1 masks on its side and 1 on the coordinator's at 4.5 GB/s, a hash on both at 1.5 GB/s, encoding,
    adding and sending at 1 GB/s (docs/benchmarks.md: ten masks, SHA-256, memory).
    """
    size = 4 * d
    return size * ((m + 2) / 4.5e9 + 2 / 1.5e9 + 3 / 1e9)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def renewed(page: str, text: str) -> str:
    """Return the page with ``text`` between its marks."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise SystemExit(f"the page needs {BEGIN} and {END} once each")
    return pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page)
