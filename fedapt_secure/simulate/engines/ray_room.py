"""Whether a Ray cluster can hold a run: places for all at once, one version, one file system; without Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput

_STEP: Final = 100
"""Shares of a processor are given in hundredths."""


@dataclass(frozen=True)
class Seen:
    """What a machine answers before anything starts on it.

    Attributes:
        version: Of fedapt-secure there.
        landmark: SHA-256 of a file of the run folder, hexadecimal; empty where there is none.
    """

    version: str
    landmark: str


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        node_id: Ray's name for it, hexadecimal.
        address: Its IP address.
        cpus, gpus: What it has in all; others may be using some of it.
    """

    node_id: str
    address: str
    cpus: float
    gpus: float


def nodes_of(described: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Return the living ones of what ``ray.nodes()`` describes."""
    return tuple(
        Node(
            one["NodeID"],
            one["NodeManagerAddress"],
            float(one["Resources"].get("CPU", 0.0)),
            float(one["Resources"].get("GPU", 0.0)),
        )
        for one in described
        if one["Alive"]
    )


def places(node: Node, cpus: float, gpus: float) -> float:
    """Return how many institutions fit on a machine beside each other; infinite if they ask for nothing.

    Ray gives a share of a GPU from one GPU, and whole ones from as many.

    Args:
        node: The machine.
        cpus: Processors of each, at least 0.
        gpus: GPUs of each, at least 0.
    """
    by_cpus = _times(node.cpus, cpus)
    if gpus == 0:
        return by_cpus
    by_gpus = _times(1.0, gpus) * int(node.gpus) if gpus < 1 else _times(node.gpus, gpus)
    return min(by_cpus, by_gpus)


def _times(available: float, wanted: float) -> float:
    return float("inf") if wanted == 0 else float(int(available / wanted + 1e-9))


def share_of(nodes: Sequence[Node], institutions: int, cpus: float | None, gpus: float) -> float:
    """Return how many processors each institution gets; all of them run at the same time.

    Args:
        nodes: The cluster.
        institutions: How many there are.
        cpus: What was asked for; ``None`` for an equal share, at most one.
        gpus: GPUs of each.

    Raises:
        InvalidInput: If the cluster is too small.
    """
    wanted = range(_STEP, 0, -1) if cpus is None else ()
    for share in [hundredths / _STEP for hundredths in wanted] or [cpus or 0.0]:
        if sum(places(node, share, gpus) for node in nodes) >= institutions:
            return share
    each = f"{cpus:g} processors" if cpus is not None else f"{1 / _STEP:g} of a processor"
    each += f" and {gpus:g} GPUs" if gpus else ""
    there = f"{sum(node.cpus for node in nodes):g} processors and {sum(node.gpus for node in nodes):g} GPUs"
    raise InvalidInput(
        f"{institutions} institutions at the same time with {each} each do not fit on the Ray cluster's"
        f" {len(nodes)} machines with {there}: give less with --client-cpus and --client-gpus, or fewer"
        " institutions"
    )


def check_machine(address: str, answer: Seen, expected: Seen, folder: Path) -> None:
    """Check that a machine has our version and sees the run folder.

    Raises:
        InvalidInput: If it does not; says what to do.
    """
    if answer.version != expected.version:
        raise InvalidInput(
            f"the Ray machine {address} has fedapt-secure {answer.version} and this one {expected.version}:"
            " install the same everywhere"
        )
    if answer.landmark != expected.landmark:
        raise InvalidInput(
            f"the Ray machine {address} does not see the run folder {folder}: choose with --out one on a file"
            " system that all machines share under the same path"
        )
