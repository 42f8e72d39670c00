"""Writes `docs/settings.md`, which numbers each setting takes and why, from the models themselves.

``python -m docs.settings`` writes it; a test finds it stale.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from fedapt_client.settings import ClientSettings
from fedapt_secure.config import ranges
from fedapt_secure.config.policy import Policy
from fedapt_secure.config.ranges import Range
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.simulate.comparison.wanted import CompareSettings
from fedapt_server.settings import ServerSettings

PAGE: Final = Path(__file__).parent / "settings.md"
MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "`session.yaml`": SessionPlan,
    "`policy.yaml`": Policy,
    "`client.yaml`": ClientSettings,
    "`server.yaml`": ServerSettings,
    "`fedapt-secure simulate`": SimulateSettings,
    "`fedapt-secure compare`, and all of `simulate` that is not listed here": CompareSettings,
}
OPTIONS: Final[Mapping[str, Mapping[str, Range]]] = {
    "plan": {
        "epsilon": ranges.EPSILON,
        "records": ranges.COUNT_OF_RECORDS,
        "persons": ranges.COUNT_OF_RECORDS,
        "rounds": ranges.ROUNDS,
        "local_steps": ranges.LOCAL_STEPS,
        "sample_rate": ranges.SAMPLE_RATE,
        "institutions": ranges.INSTITUTIONS,
        "classes": ranges.CLASSES_NAMED,
        "feature_size": ranges.WIDTH,
    },
    "predict": {
        "top": ranges.CLASSES_NAMED,
        "batch_size": ranges.IMAGES_AT_ONCE,
        "prior_weight": ranges.PRIOR_WEIGHT,
        "axis": ranges.AXIS,
    },
    "evaluate": {
        "batch_size": ranges.IMAGES_AT_ONCE,
        "prior_weight": ranges.PRIOR_WEIGHT,
        "axis": ranges.AXIS,
    },
    "export": {"prior_weight": ranges.PRIOR_WEIGHT, "axis": ranges.AXIS},
    "client rehearse": {"axis": ranges.AXIS},
}
"""What commands check themselves, being no field of a model."""
SHARES: Final = Range(0, 1, "a probability", low_open=True, high_open=True)
BOUNDED_OTHERWISE: Final = frozenset({"max_delta"})
"""Fields with bounds of pydantic's own."""
HEAD: Final = """\
# Settings: which numbers are possible, and why

Written by `python -m docs.settings` from the settings themselves. A number outside is refused in one line
that names the setting, the number, the range and the reason, before anything starts. A default stands where
there is one.
"""
CLIP: Final = """
## How coarse an update may be
`clip` in `session.yaml` (`--update-clip` of `simulate`) is the largest change of a parameter that a round can
represent. A masked update is sent in integers of 32 bits, in which the sum over n institutions must have
room. Their step is a power of two, between clip·n·2⁻³¹ and twice that. A plan is refused where such steps are
too coarse for what it does, or the clip is too small for it:

- A round leads no farther than U = η·C·Σₛ (1 - mˢ)/(1 - m), s from 1 to `local_steps`: each step goes at most
  the learning rate η times the clipping norm C, and momentum m adds what is left of the steps before.
- An update of that length has a typical value of U/√d, where d values are trained.
- Too coarse is a step of more than a third of U/√d: rounding errors, of length step·√(d/12), are then a tenth
  of the update and more. Too small is a clip of less than a tenth of U/√d: most values are then cut off.

Coordinator, institutions and `simulate` compute this alike (`fedapt_secure/protocol/resolution.py`), an
institution before anything is spent.
"""


def numeric_fields(model: type[BaseModel]) -> Iterator[tuple[str, Any, Range | None]]:
    """Yield name, pydantic's field and range of each field that takes a number; ``None`` without a range."""
    for name, field in model.model_fields.items():
        inner = _nested(field.annotation)
        if inner is not None:
            yield from ((f"{name}.{deeper}", one, found) for deeper, one, found in numeric_fields(inner))
            continue
        found = [one for one in field.metadata if isinstance(one, Range)] + list(_ranges(field.annotation))
        if found or _takes_numbers(field.annotation):
            yield name, field, found[0] if found else None


def _nested(annotation: Any) -> type[BaseModel] | None:
    """Return the model of settings within a setting."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _ranges(annotation: Any) -> Iterator[Range]:
    for one in get_args(annotation):
        if isinstance(one, Range):
            yield one
        else:
            yield from _ranges(one)


def _takes_numbers(annotation: Any) -> bool:
    if annotation in (int, float):
        return True
    if get_origin(annotation) in (None, dict) and not get_args(annotation):
        return False
    return any(_takes_numbers(one) for one in get_args(annotation) if not isinstance(one, str))


def page() -> str:
    """Return the whole document."""
    parts = [HEAD]
    for title, model in MODELS.items():
        parts.append(f"\n## {title}\n| setting | default | range | reason |\n|---|---|---|---|\n")
        for name, field, found in numeric_fields(model):
            allowed = found or SHARES
            default = "" if field.is_required() else _said(field.default)
            parts.append(f"| `{name}` | {default} | {allowed} | {allowed.reason} |\n")
    for command, options in OPTIONS.items():
        parts.append(f"\n## `fedapt-secure {command}`\n| option | range | reason |\n|---|---|---|\n")
        parts += [
            f"| `--{name.replace('_', '-')}` | {allowed} | {allowed.reason} |\n"
            for name, allowed in options.items()
        ]
    return "".join([*parts, CLIP])


def _said(default: Any) -> str:
    return f"{default}" if isinstance(default, int | float) else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
