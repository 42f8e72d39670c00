"""The fields of a body, and other values of the same kind that somebody might write there."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

Path = tuple[str | int, ...]
"""Keys from the body down; an integer stands for that entry of a list."""

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "accountant": ("prv", "rdp"),
    "code": ("policy_epsilon", "no_space"),
    "composition": ("sum", "rdp-filter"),
    "error": ("PolicyRefused", "InvalidInput"),
    "mechanism": ("gaussian-grid", "gaussian"),
    "noise": ("keystream", "deterministic"),
    "participation": ("all", "one-per-domain"),
    "phase": ("advertise", "share", "masked_input", "unmask", "verify"),
    "privacy_unit": ("any", "person"),
    "reason": ("policy_epsilon", "no_space", "budget_spent"),
    "role": ("institution", "coordinator"),
    "secure_aggregation": ("masking", "ckks", "none"),
    "share_metrics": ("no", "masked"),
    "status": ("completed", "aborted", "failed"),
    "supervision": ("labels", "no labels"),
    "unit": ("image", "person"),
}
"""Fields with one of a few words."""
ABSENT: Final[Mapping[str, Any]] = {
    "bundle": "ab" * 32,
    "context": "ab" * 32,
    "continues": {"log": "ab" * 16, "seq": 7, "hash": "cd" * 32},
    "detail": "nothing in particular",
    "privacy": None,
    "rdp": 0.5,
    "rdp_order": 8.0,
    "rule": "max_epsilon",
    "transcript": "ab" * 32,
    "warning": "δ is large for so few images",
}
"""What somebody might write where nothing stands."""
SHARES: Final = frozenset({"sample_rate", "delta", "max_delta", "session_delta", "momentum"})
"""Numbers that stay below 1."""
NULLABLE: Final = frozenset({"bundle", "context", "plan", "privacy", "transcript", "warning", "code"})
_HEX = re.compile(r"[0-9a-f]{16,}")
_PARTY = re.compile(r"clinic-[0-9]+|coordinator")


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield where there is something to change: every leaf, and every list; of lists of objects the first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
            if (inner is not None and not isinstance(inner, dict | list)) or key in NULLABLE:
                continue
    elif isinstance(value, list):
        yield at
        if value and isinstance(value[0], dict | list):
            yield from paths(value[0], (*at, 0))
    if not isinstance(value, dict | list) or (at and at[-1] in NULLABLE and isinstance(value, dict)):
        yield at


def name(path: Path) -> str:
    """Return how a path is written in the table: ``plan.class_names``, ``heads[].seq``."""
    text = ""
    for step in path:
        text += "[]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def get(body: Any, path: Path) -> Any:
    for step in path:
        body = body[step]
    return body


def put(body: Any, path: Path, value: Any) -> Any:
    """Return a body with another value at a path."""
    if not path:
        return value
    if isinstance(body, dict):
        return {key: put(inner, path[1:], value) if key == path[0] else inner for key, inner in body.items()}
    return [put(inner, path[1:], value) if index == path[0] else inner for index, inner in enumerate(body)]


def plausible(path: Path, value: Any) -> list[Any]:
    """Return other values of the same kind, at least one."""
    leaf = next((step for step in reversed(path) if isinstance(step, str)), "")
    if value is None:
        return [ABSENT.get(leaf, "ab" * 32)]
    others: list[Any] = [None] if leaf in NULLABLE else []
    if isinstance(value, dict):
        return others
    if isinstance(value, list):
        return [["ab" * 16]] if leaf == "overlaps" and not value else others + _lists(value)
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [*others, *(one for one in (value - 1, value + 1, 3 * value + 2) if one >= 0)]
    if isinstance(value, float):
        more = (value + 1) / 2 if leaf in SHARES else 2 * value + 0.5
        return [*others, value / 3, more] if value else [*others, 0.5]
    return others + _texts(leaf, value)


def _texts(leaf: str, value: str) -> list[str]:
    if leaf in CHOICES:
        return [one for one in CHOICES[leaf] if one != value][:3]
    if _HEX.fullmatch(value):
        return [hashlib.sha512(value.encode()).hexdigest()[: len(value)]]
    if _PARTY.fullmatch(value):
        return ["clinic-1" if value != "clinic-1" else "clinic-3"]
    try:
        return [(datetime.fromisoformat(value) + timedelta(days=400)).isoformat(timespec="microseconds")]
    except ValueError:
        return [f"{value} or so"]


def _lists(value: list[Any]) -> list[Any]:
    if not value:
        return [["clinic-1"]]
    shorter = [value[1:], value[:-1]] if len(value) > 1 else [[]]
    if all(isinstance(one, str) for one in value):
        strange = _texts("", value[0])[0]
        return [*shorter, [strange, *value[1:]] if strange not in value else [*value, "clinic-99"]]
    return shorter
