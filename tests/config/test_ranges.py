"""Every number that can be set has a range with a reason: inside it is taken, outside refused in one line."""

import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from docs import settings as page
from docs.settings import BOUNDED_OTHERWISE, MODELS, OPTIONS, numeric_fields
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.app import app, run
from fedapt_secure.config import ranges
from fedapt_secure.config.ranges import Range, number
from fedapt_secure.config.reading import Window
from fedapt_secure.config.settings import build
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.plan import SessionPlan
from tests.protocol.federation import Federation

FIELDS = [
    (model, name, field, found) for model in MODELS.values() for name, field, found in numeric_fields(model)
]
RANGED = [(model, name, field, found) for model, name, field, found in FIELDS if found is not None]
NAMED = {name: value for name, value in vars(ranges).items() if isinstance(value, Range)}


def whole(annotation: Any) -> bool:
    return annotation is int or (annotation is not float and any(map(whole, get_args(annotation))))


def just_inside(found: Range, integers: bool) -> Iterator[float]:
    ends = (found.low, found.low_open, math.inf), (found.high, found.high_open, -math.inf)
    for end, is_open, inwards in ends:
        nearest = (end + math.copysign(1, inwards)) if integers else math.nextafter(end, inwards)
        yield nearest if is_open else end


def just_outside(found: Range, integers: bool) -> Iterator[float]:
    ends = (found.low, found.low_open, -math.inf), (found.high, found.high_open, math.inf)
    for end, is_open, outwards in ends:
        nearest = (end + math.copysign(1, outwards)) if integers else math.nextafter(end, outwards)
        yield end if is_open else nearest


def as_given(value: float, integers: bool) -> float:
    return int(value) if integers else float(value)


def test_no_number_is_without_a_range() -> None:
    """A setting that is added without one is found here: give it a `Range` of `fedapt_secure.config`."""
    without = {(model.__name__, name) for model, name, _, found in FIELDS if found is None}
    assert {name for _, name in without} <= BOUNDED_OTHERWISE
    assert len(RANGED) > 50


@pytest.mark.parametrize("name", sorted(BOUNDED_OTHERWISE))
def test_what_has_bounds_of_its_own_is_a_probability(name: str) -> None:
    for _, field, info, _ in FIELDS:
        if field == name:
            adapter = TypeAdapter(info.rebuild_annotation())
            assert adapter.validate_python(0.5) == 0.5
            for outside in (0, 1, -0.1, math.nan, math.inf):
                with pytest.raises(ValueError, match=r"than|number|range"):
                    adapter.validate_python(outside)


@pytest.mark.parametrize("found", NAMED.values(), ids=NAMED)
def test_ranges_are_finite_and_have_a_reason(found: Range) -> None:
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    assert found.low < found.high
    assert found.reason.strip()
    assert "\n" not in found.reason
    for value in (math.nan, math.inf, -math.inf):
        assert value not in found


@pytest.mark.parametrize(
    ("field", "found"), [(field, found) for *_, field, found in RANGED], ids=[name for _, name, *_ in RANGED]
)
def test_inside_is_taken_and_outside_refused(field: Any, found: Range) -> None:
    # The type alone: what else a model asks for, of several settings together, has its own tests.
    adapter, integers = TypeAdapter(field.rebuild_annotation()), whole(field.annotation)

    def wrapped(value: float) -> Any:
        """Some settings are lists of such numbers, or numbers by name."""
        kind = str(field.annotation)
        if field.annotation == (Window | None):
            return value, 1.0
        if kind.startswith("tuple"):
            parts = [part for part in get_args(field.annotation) if part is not ...]
            return (value,) * len(parts)
        return {"fedapt": value} if kind.startswith("dict") else value

    for value in just_inside(found, integers):
        given_value = wrapped(as_given(value, integers))
        assert adapter.validate_python(given_value) == given_value
    for value in just_outside(found, integers):
        with pytest.raises(ValueError, match="is not in the range"):
            adapter.validate_python(wrapped(as_given(value, integers)))
    for value in (math.nan, math.inf, True, "many"):
        with pytest.raises(ValueError, match=r"range|number|valid|true"):
            adapter.validate_python(wrapped(value))


MANY = (
    ("update_clip", 1e30, "update_clip: 1e+30 is not in the range 1e-06 to 1,000,000"),
    ("update_clip", 1e12, "update_clip: 1,000,000,000,000 is not in the range"),
    ("dp_epsilon", 500, "dp_epsilon: 500 is not in the range 0.03 to 100"),
    ("rounds", 10**9, "rounds: 1,000,000,000 is not in the range 1 to 100,000"),
    ("learning_rate", math.inf, "learning_rate: inf is not in the range"),
    ("keys", 5000, "keys: 5,000 is not in the range 1 to 4,096"),
    ("rounds", True, "rounds: give a number, not true or false"),
)


@pytest.mark.parametrize(("name", "value", "said"), MANY)
def test_the_line_names_setting_value_range_and_reason(name: str, value: float, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(SimulateSettings, {name: value}, source="here")
    assert str(caught.value).startswith(f"here: {said}")
    assert "\n" not in str(caught.value)
    options = [one for one in str(caught.value).split(": ") if one]
    assert len(options) > 2 or value is True


@pytest.mark.parametrize("name", ["clip", "learning_rate", "round_timeout_s", "text_width", "initial_seed"])
def test_a_plan_names_the_entry(name: str) -> None:
    fields = Federation(3).configuration.plan.model_dump(mode="json") | {name: 1e300}
    with pytest.raises(InvalidInput, match=rf"^session.yaml: {name}: "):
        build(SessionPlan, fields, source="session.yaml")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    deeper = getattr(command, "commands", None)
    if not deeper:
        yield path, command
    for name, one in (deeper or {}).items():
        yield from commands(one, (*path, name))


NUMERIC_OPTIONS = [
    (path, parameter.name)
    for path, command in commands(typer.main.get_command(app))
    for parameter in command.params
    if parameter.type_descriptor.annotation in (int, float)
]
OF_MODELS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("simulate",): ("`fedapt-secure simulate`",),
    ("compare",): ("`fedapt-secure simulate`",),
    ("paper",): ("`fedapt-secure simulate`",),
    ("server", "init"): ("`server.yaml`",),
    ("client", "init"): ("`client.yaml`",),
}
"""Commands whose options are fields of a model, which checks them."""
DELTA = ("plan",), "delta"
"""A probability, as the budget checks it."""


def test_every_numeric_option_of_every_command_has_a_range() -> None:
    """An option that is added without one is found here."""
    own = {(tuple(command.split()), name) for command, options in OPTIONS.items() for name in options}
    fields = {
        (path, name)
        for path, titles in OF_MODELS.items()
        for title in titles
        for name in MODELS[title].model_fields
    }
    assert own <= set(NUMERIC_OPTIONS)
    assert set(NUMERIC_OPTIONS) <= own | fields | {DELTA}
    assert len(NUMERIC_OPTIONS) > 30


@pytest.mark.parametrize(
    ("command", "name", "found"),
    [(command, name, found) for command, options in OPTIONS.items() for name, found in options.items()],
)
def test_an_option_outside_is_one_line(command: str, name: str, found: Range, capsys, tmp_path) -> None:
    needed = {"plan": {"epsilon": "8", "records": "270"}}.get(command, {})
    places = {
        "predict": ["model", "image"],
        "evaluate": ["model", "--data", str(tmp_path)],
        "export": ["model", str(tmp_path / "out"), "--to", "onnx"],
    }.get(command, [])
    integers = number(found.high).replace(",", "").isdigit() and name not in {"epsilon", "sample_rate"}
    for value in just_outside(found, integers):
        options = {**needed, name: f"{as_given(value, integers):.17g}"}
        words = [word for one, said in options.items() for word in ("--" + one.replace("_", "-"), said)]
        assert run([*command.split(), *places, *words]) == ExitStatus.BAD_INPUT
        printed = capsys.readouterr().err
        assert f"error: --{name.replace('_', '-')}: " in printed
        assert f"is not in the range {found}: {found.reason}" in printed
        assert printed.count("\n") == 1


@given(st.integers() | st.floats())
def test_a_number_is_said_in_a_few_characters(value: float) -> None:
    assert 0 < len(number(value)) < 33
    if isinstance(value, int) and abs(value) < 10**24:
        assert int(number(value).replace(",", "")) == value


def test_the_page_is_up_to_date() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python -m docs.settings"
