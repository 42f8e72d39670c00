"""Rows of the paper's tables: the methods that it compares, and its ablations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fedapt_secure.learning.evaluation.scores import ORACLE_ROUTING, UNIFORM_ROUTING
from fedapt_secure.protocol.methods import (
    COCOOP,
    FEDAPT,
    FEDAVG,
    FEDCLIP,
    FEDPROX,
    LOCAL,
    PROMPTFL,
    ZERO_SHOT,
    method_facts,
)

WITH_LABELS: Final = (ZERO_SHOT, LOCAL, FEDAVG, FEDPROX, FEDCLIP, PROMPTFL, COCOOP, FEDAPT)
WITHOUT_LABELS: Final = (ZERO_SHOT, FEDCLIP, PROMPTFL, FEDAPT)
"""The methods that the reference code trains without labels."""
CONTEXT_TOKENS: Final = (4, 8, 16, 24, 32)
FEWER_TOKENS: Final = (4, 8, 16, 24)
"""What the tiny model's 32 tokens leave room for."""
TEMPERATURES: Final = (0.001, 0.1, 1.0, 10.0)
KEY_COUNTS: Final = (1, 2, 3)


@dataclass(frozen=True)
class TableRow:
    """One row that is wanted.

    Attributes:
        name: For files, and for ``--rows``.
        title: For people.
        method: Which method.
        changes: What is another than in the table's configuration.
        only_if_named: Why it is run only where ``--rows`` names it; ``None`` for all others.
        routing: With which routing a run of `fedapt` without changes is evaluated, in place of a run.
    """

    name: str
    title: str
    method: str = FEDAPT
    changes: Mapping[str, Any] = field(default_factory=dict)
    routing: str | None = None
    only_if_named: str | None = None


_LARGE_MODEL: Final = "ViT-L-14"
_TOO_LARGE: Final = (
    f"it sends the whole image tower, 1.1 GiB of a {_LARGE_MODEL}, and a message holds 511 MiB; name it with"
    " --rows for a smaller model"
)
FULL: Final = TableRow(FEDAPT, "FedAPT")


def methods(
    names: tuple[str, ...], changes: Mapping[str, Mapping[str, Any]], model: str
) -> tuple[TableRow, ...]:
    """Return a row for each method.

    Args:
        names: The methods.
        changes: What some of them have that the configuration has not.
        model: The CLIP that they run with.
    """
    too_large = (FEDAVG, FEDPROX) if model.startswith(_LARGE_MODEL) else ()
    return tuple(
        TableRow(
            name,
            method_facts(name).title,
            name,
            changes.get(name, {}),
            only_if_named=_TOO_LARGE if name in too_large else None,
        )
        for name in names
    )


def ablations(base: Mapping[str, Any], domains: int, tokens: Sequence[int]) -> tuple[TableRow, ...]:
    """Return the ablations of FedAPT: what each of its parts is worth.

    Args:
        base: The table's configuration: what it has already is no row.
        domains: How many domains the data set has; as many keys are the method itself.
        tokens: Lengths of contexts to try.
    """
    return (FULL, *_without_parts(base), *_keys(domains), *_sizes(base, tokens))


def _without_parts(base: Mapping[str, Any]) -> Iterator[TableRow]:
    same_rate = {name: base[name] for name in ("learning_rate",) if base.get(name) is not None}
    yield TableRow("no-keys", "no keys, no network (PromptFL)", PROMPTFL, same_rate)
    yield TableRow("uniform-routing", "no network: all keys alike", routing=UNIFORM_ROUTING)
    yield TableRow("oracle-routing", "no network: the own domain's key, told", routing=ORACLE_ROUTING)


def _keys(domains: int) -> Iterator[TableRow]:
    for count in KEY_COUNTS:
        if count < domains:
            title = "one key for all" if count == 1 else f"{count} keys, shared by domains"
            yield TableRow(f"keys-{count}", title, changes={"keys": count})
    for values, title in (
        ("signed", "keys U[-1, 1)"),
        ("normal", "keys N(0, 1)"),
        ("contexts", "keys N(0, 0.02²)"),
    ):
        yield TableRow(f"keys-{values}", title, changes={"key_values": values})
    yield TableRow("keys-added", "keys added", changes={"key_fusion": "add"})
    changes = {"key_fusion": "add", "key_values": "contexts"}
    yield TableRow("keys-added-contexts", "keys N(0, 0.02²) added", changes=changes)


def _sizes(base: Mapping[str, Any], tokens: Sequence[int]) -> Iterator[TableRow]:
    for count in tokens:
        if count != base["context_tokens"]:
            yield TableRow(f"tokens-{count}", f"{count} context tokens", changes={"context_tokens": count})
    shared = not base["shared_context"]
    title = "one context for all classes" if shared else "a context for each class"
    yield TableRow(
        "shared-context" if shared else "class-contexts", title, changes={"shared_context": shared}
    )
    for value in TEMPERATURES:
        yield TableRow(
            f"temperature-{value:g}", f"routing temperature {value:g}", changes={"temperature": value}
        )
