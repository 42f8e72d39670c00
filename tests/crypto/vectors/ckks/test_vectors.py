"""The vectors of CKKS through the package and through the reference; a changed vector is noticed."""

import copy
from types import ModuleType
from typing import Any

import pytest

from tests.crypto.vectors import recorded
from tests.crypto.vectors.checks import expect
from tests.crypto.vectors.ckks import make, package, reference
from tests.crypto.vectors.make_vectors import to_text
from tests.crypto.vectors.recorded import freeze
from tests.crypto.vectors.test_vectors import changed, notices, places

IMPLEMENTATIONS = {"package": package, "reference": reference}
VECTORS = recorded.load(make.NAME)
CASES = [pytest.param(case, id=f"{i}-{case['function']}") for i, case in enumerate(VECTORS["cases"])]
REFUSED = [pytest.param(case, id=case["name"]) for case in VECTORS["refused"]]
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)


def check(implementation: ModuleType, case: dict[str, Any]) -> None:
    result = getattr(implementation, case["function"])(**case["arguments"])
    assert freeze(result) == freeze(case["result"]), case["function"]


def opened() -> dict[str, Any]:
    return next(case["arguments"] for case in VECTORS["cases"] if case["function"] == "ckks_open")


def with_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the sum that opens, with what differs; slots are replaced one by one."""
    arguments = copy.deepcopy(opened()) | {key: value for key, value in changes.items() if key != "slots"}
    slots = {(piece, place): number for piece, place, number in arguments["slots"]}
    slots |= {(piece, place): number for piece, place, number in changes.get("slots", [])}
    return arguments | {"slots": [[*where, number] for where, number in slots.items()]}


@each_implementation
@pytest.mark.parametrize("case", CASES)
def test_known_answer(case: dict[str, Any], implementation: ModuleType) -> None:
    check(implementation, case)


@each_implementation
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: dict[str, Any], implementation: ModuleType) -> None:
    expect(case["error"], implementation.ckks_open, **with_changes(case["changes"]))


def test_what_is_refused_is_refused_for_its_change_alone() -> None:
    for implementation in IMPLEMENTATIONS.values():
        assert implementation.ckks_open(**with_changes({})) == [3 * make.LIMIT, -3 * make.LIMIT, 2]


def test_every_function_has_a_case_and_what_must_be_refused_is_there() -> None:
    own = {name for name in vars(reference) if name.startswith("ckks_")}
    assert {case["function"] for case in VECTORS["cases"]} == own
    named = {"value-no-integer", "value-shifted-by-one", "another-tag", "tag-beyond-the-field", "doubled"}
    assert named <= {case["name"] for case in VECTORS["refused"]}


def test_the_generator_still_makes_them() -> None:
    text = (recorded.FOLDER / make.NAME).read_text(encoding="utf-8")
    assert text == to_text(make.content())


@pytest.mark.parametrize("case", CASES)
def test_every_changed_place_is_noticed(case: dict[str, Any]) -> None:
    for path in places(case):
        for what, implementation in IMPLEMENTATIONS.items():
            assert notices(check, implementation, changed(case, path)), f"{path}: {what}"


@pytest.mark.parametrize("length", [1, 2043, 2044, 2045])
@pytest.mark.parametrize("name", ["clinic-1", "x"])
def test_packing_of_any_length_is_alike(length: int, name: str) -> None:
    update = [(-1) ** i * i * 1_000_003 % (2 * make.LIMIT) - make.LIMIT for i in range(length)]
    arguments = {"secret": make.G, "execution": make.EXECUTION, "name": name, "update": update}
    assert freeze(package.ckks_pack(**arguments)) == freeze(reference.ckks_pack(**arguments))


@pytest.mark.parametrize(("participants", "decryptions"), [(3, 1), (5, 4096), (64, 1 << 20)])
def test_noise_of_any_size_is_alike(participants: int, decryptions: int) -> None:
    arguments = {
        "secret": make.G,
        "execution": make.EXECUTION,
        "contributors": make.NAMES,
        "sum_hash": bytes([participants]) * 32,
        "participants": participants,
        "decryptions": decryptions,
        "count": 101,
    }
    assert package.ckks_noise(**arguments) == reference.ckks_noise(**arguments)
