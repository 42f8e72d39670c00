"""What an institution sends in a round: ours, Flower's SecAgg+ and plain float32.

    python -m benchmarks.protocol.wire --json results.json

Ours is counted: whole rounds of the real protocol between machines in memory, payload by payload, and the sum
is checked. Flower is counted as well where flwr is installed, an environment of its own (see
``secure_aggregation.py``); elsewhere its bytes follow from `FLOWER`, which was fitted there and is checked
against the count wherever both are at hand.
"""

import importlib.util
from dataclasses import dataclass

from benchmarks.harness import Result, Table, Target, run
from benchmarks.protocol.secagg_rounds import Case, Parties, Timings, our_round

MOST_BYTES_A_VALUE = 4.1
LARGE_VALUES = 1_000_000
"""From here on the bytes a value count; below it is what else a round needs."""


@dataclass(frozen=True)
class FlowerBytes:
    """Bytes that a client of Flower's SecAgg+ sends: a value, a neighbour, and whatever happens."""

    value: float
    neighbour: float
    fixed: float

    def sent(self, case: Case) -> float:
        """Return the bytes of one client in one round."""
        return self.value * case.length + self.neighbour * neighbours(case) + self.fixed


FLOWER = FlowerBytes(value=8.0, neighbour=664.0, fixed=1018.0)
"""Of flwr 1.41.0: exact on the full graph, 136 bytes too many where the graph is sparse."""
AGREE = 0.01


@dataclass(frozen=True)
class Model:
    """What is tuned, and by how many."""

    title: str
    institutions: int
    values: int

    @property
    def case(self) -> Case:
        """Return the round; above 64 institutions on the graph that the product chooses."""
        return Case(self.institutions, self.values, "chosen graph", 1)


MODELS = (
    Model("tiny CLIP, 10 classes, 8 tokens (default)", 5, 5_440),
    Model("ViT-B/32, 10 classes, 16 tokens", 5, 84_992),
    Model("ViT-B/32, 10 classes, 16 tokens", 100, 84_992),
    Model("ViT-B/32, 345 classes, 16 tokens", 6, 2_829_312),
    Model("ViT-B/32, 345 classes, 16 tokens", 20, 2_829_312),
)
QUICK = (Model("small", 4, 100),)


def neighbours(case: Case) -> int:
    """Return k; Flower's graph needs an even one below everybody."""
    k = case.topology.neighbours
    return k if k == case.institutions - 1 else k + k % 2


def flower_case(case: Case) -> Case:
    """Return the same round on Flower's graph of as many neighbours."""
    k = neighbours(case)
    return Case(case.institutions, case.length, case.graph, 1, None if k == case.institutions - 1 else k)


def bytes_sent(timings: Timings, case: Case) -> float:
    """Return what one institution sent: the masked vector and everything else."""
    return timings.value_bytes * case.length + timings.fixed_bytes


def measure(quick: bool) -> Result:
    """Count what a round sends."""
    counted = importlib.util.find_spec("flwr") is not None
    result = Result(
        "wire",
        "Bytes on the wire",
        "What one institution sends in one round (payloads, without TLS); one institution drops out, and the"
        " sum is checked. Ours is counted, signatures, hybrid post-quantum shares and consistency included."
        + (
            " Flower's SecAgg+ is counted as well, on a graph of as many neighbours."
            if counted
            else " Flower's SecAgg+ is computed, for as many neighbours: flwr needs an environment of its own"
            f" and is not installed here. The formula, {FLOWER.value:g} d + {FLOWER.neighbour:g} k +"
            f" {FLOWER.fixed:g} bytes, was fitted to counted rounds of flwr 1.41.0; this script checks it"
            " where flwr is installed."
        ),
    )
    columns = [
        "tuned",
        "n",
        "k",
        "values d",
        "ours",
        "bytes a value",
        "Flower",
        "of ours",
        "float32",
        "of ours",
    ]
    table = Table("", columns)
    for model in QUICK if quick else MODELS:
        case = model.case
        parties = Parties(case.institutions, case.length)
        timings = our_round(case, parties)
        ours, plain, flower = bytes_sent(timings, case), 4.0 * case.length, FLOWER.sent(case)
        if counted:
            flower = counted_flower(case, parties)
        result.raw[f"{model.title}, n = {case.institutions}"] = {
            "ours": ours,
            "vector": timings.value_bytes * case.length,
            "flower": flower,
            "flower_counted": counted,
            "float32": plain,
        }
        table.rows.append(
            [
                model.title,
                f"{case.institutions}",
                f"{case.topology.neighbours}",
                f"{case.length:,}",
                f"{ours:,.0f}",
                f"{ours / case.length:.2f}",
                f"{flower:,.0f}",
                f"{flower / ours:.2f}",
                f"{plain:,.0f}",
                f"{plain / ours:.2f}",
            ]
        )
        if not quick and case.length >= LARGE_VALUES:
            result.targets.append(
                Target(
                    f"{model.title}, {case.institutions} institutions",
                    MOST_BYTES_A_VALUE,
                    ours / case.length,
                    at_most=True,
                    unit=" bytes a value",
                )
            )
    result.tables.append(table)
    return result


def counted_flower(case: Case, parties: Parties) -> float:
    """Play Flower's round and return what a client sent.

    Raises:
        SystemExit: If the formula does not agree: then what is said where flwr is missing would be wrong.
    """
    from benchmarks.protocol.flower_rounds import flower_round  # noqa: PLC0415 - needs flwr

    wanted = flower_case(case)
    found = bytes_sent(flower_round(wanted, parties), wanted)
    if abs(FLOWER.sent(case) / found - 1) > AGREE:
        raise SystemExit(
            f"Flower sent {found:,.0f} bytes, the formula says {FLOWER.sent(case):,.0f}: fit it anew"
        )
    return found


if __name__ == "__main__":
    run(measure)
