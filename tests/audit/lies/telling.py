"""Which lies there are, and how each is told: one field alone, or everywhere with all that goes with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.checks.recompute import recompute
from fedapt_secure.audit.evidence.bodies import policy_hash
from fedapt_secure.audit.findings import Finding, Verdict
from fedapt_secure.audit.judgement import Judgement
from fedapt_secure.privacy.budget import delta_warning
from tests.audit.lies import fields
from tests.audit.lies.scenes import SCENES, Body, Falsify, Line, Scene, play

OPENING = frozenset({"log_opened", "log_continued"})
NAMING = OPENING | {"witnessed"}
"""Lines that say whose log or head it is: what is wrong with them may be found under the name they give."""


@dataclass(frozen=True)
class Field:
    """One field of one type of line, as a role writes it.

    Attributes:
        liar: Who writes it. scene: Where it is there. type: The line's type.
        path: Where it stands in the body. value: What stood there. others: What might.
    """

    liar: str
    scene: Scene
    type: str
    path: fields.Path
    value: Any

    @property
    def role(self) -> str:
        """Whose log: ``coordinator`` or ``institution``."""
        return COORDINATOR if self.liar == COORDINATOR else "institution"

    @property
    def name(self) -> str:
        """The field's name."""
        return fields.name(self.path)

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by in the table."""
        return self.role, self.type, self.name

    @property
    def others(self) -> list[Any]:
        """Other values for it."""
        return fields.plausible(self.path, self.value)


@dataclass(frozen=True)
class Lie:
    """One lie: a field, which of its other values, and whether it is told everywhere."""

    field: Field
    number: int
    everywhere: bool = False

    def __str__(self) -> str:
        of = self.field
        how = " everywhere" if self.everywhere else ""
        return f"{of.role} {of.type}.{of.name} {self.number}{how}"


@lru_cache(maxsize=1)
def all_fields(base: Path) -> tuple[Field, ...]:
    """Return every field of every type of line that the scenes have, from the first one that has it."""
    found: dict[tuple[str, str, str], Field] = {}
    for liar, scenes in SCENES.items():
        for scene in scenes:
            for type, body in play(base, scene, liar).lines:
                for path in fields.paths(body):
                    field = Field(liar, scene, type, path, fields.get(body, path))
                    known = found.setdefault(field.key, field)
                    if known.scene == scene and _empty(known.value) and not _empty(field.value):
                        found[field.key] = field
    return tuple(found.values())


def lies_about(field: Field) -> Iterator[Lie]:
    """Yield every lie about a field."""
    for number in range(len(field.others)):
        yield Lie(field, number)
        if field.type not in OPENING:
            yield Lie(field, number, everywhere=True)


def tell(base: Path, lie: Lie) -> Judgement:
    """Play its scene with a lie, and have it audited."""
    of = lie.field
    return play(base, of.scene, of.liar, told_everywhere(lie) if lie.everywhere else told_once(lie)).judgement


def told_once(lie: Lie) -> Falsify:
    """Return what writes another value into all lines of a type."""
    of = lie.field

    def falsify(type: str, body: Body) -> list[Line]:
        return [(type, _other(lie, of.path, body) if type == of.type else body)]

    return falsify


def told_everywhere(lie: Lie) -> Falsify:
    """Return what writes it into every line that has a field of that name, and all that follows from it."""
    of = lie.field
    leaf = next(step for step in reversed(of.path) if isinstance(step, str))

    def falsify(type: str, body: Body) -> list[Line]:
        for path in fields.paths(body):
            if path and path[-1] == leaf and ("spent_before" in path) == ("spent_before" in of.path):
                body = _other(lie, path, body)
        return [(type, follow(type, body, leaf))]

    return falsify


def follow(type: str, body: Body, changed: str) -> Body:
    """Return a body with what a careful liar computes anew, but for the field that the lie is about."""
    if type == "policy" and changed != "hash":
        return {**body, "hash": policy_hash(body)}
    if type == "session_accepted" and body.get("privacy"):
        plan = body["privacy"]
        new: Body = {}
        if changed != "epsilon_planned":
            new["epsilon_planned"] = epsilon(plan, plan["max_steps"])
        if changed != "warning":
            new["warning"] = delta_warning(plan["delta"], plan["declared_records"], plan["unit"])
        return {**body, "privacy": plan | new}
    if type == "spend" and changed != "epsilon":
        return {**body, "epsilon": epsilon(body, body["total_steps"])}
    return body


def epsilon(terms: Body, steps: int) -> float:
    """Return ε of some steps, as the training's accountant would state it."""
    if not steps:
        return 0.0
    event = (terms["sample_rate"], terms["noise_multiplier"])
    return recompute({event: steps}, terms["delta"]).epsilon + 0.002


def found_in(judgement: Judgement, liar: str, type: str) -> list[Finding]:
    """Return what the audit finds at fault with a liar's log."""
    grave = (Verdict.VIOLATED, Verdict.TAMPERED)
    return [
        one
        for one in judgement.findings
        if one.verdict in grave and one.file is not None and (one.party == liar or type in NAMING)
    ]


def _other(lie: Lie, path: fields.Path, body: Body) -> Body:
    """Return a body with another value at a path, where there is something of the kind that was there."""
    try:
        value = fields.get(body, path)
    except (KeyError, IndexError, TypeError):
        return body
    if _empty(value) != _empty(lie.field.value) or isinstance(value, dict) != isinstance(
        lie.field.value, dict
    ):
        return body
    others = fields.plausible(path, value)
    return fields.put(body, path, others[min(lie.number, len(others) - 1)])


def _empty(value: Any) -> bool:
    return value is None or value in ([], "", {})
