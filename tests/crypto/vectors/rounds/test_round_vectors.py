"""Vectors of verified rounds through the package and the reference; a changed one is noticed."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from tests.crypto.vectors import checks, make_vectors, recorded
from tests.crypto.vectors.recorded import FOLDER
from tests.crypto.vectors.rounds import (
    make_failing,
    make_rounds,
    package_rounds,
    reference_first_model,
    reference_rounds,
)
from tests.crypto.vectors.test_vectors import changed, notices, places

IMPLEMENTATIONS = {
    "package": SimpleNamespace(**vars(package_rounds)),
    "reference": SimpleNamespace(**{**vars(reference_rounds), **vars(reference_first_model)}),
}
FILES = (make_rounds.ROUNDS, make_rounds.FIRST, make_failing.FAILING)
CASES = {name: recorded.load(f"rounds/{name}")["cases"] for name in FILES[:2]}
FAILING = [
    make_failing.expanded(CASES[make_rounds.ROUNDS], made)
    for made in recorded.load(f"rounds/{make_failing.FAILING}")["cases"]
]
EVERY = [
    pytest.param(name, case, id=f"{name[:-5]}-{number}-{case['function']}")
    for name, cases in CASES.items()
    for number, case in enumerate(cases)
]
TABLE = (FOLDER / "README.md").read_text(encoding="utf-8")


def check_failing(case: dict[str, Any], implementation: SimpleNamespace) -> None:
    body = {key: value for key, value in case.items() if key != "sha256"}
    assert case["sha256"] == make_failing.hash_of_case(body)
    checks.expect(case["error"], getattr(implementation, case["function"]), **case["arguments"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "case"), EVERY)
def test_known_answer(name: str, case: dict[str, Any], implementation: SimpleNamespace) -> None:
    checks.check_case(implementation, case)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("case", FAILING, ids=[case["name"] for case in FAILING])
def test_refused(case: dict[str, Any], implementation: SimpleNamespace) -> None:
    check_failing(case, implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "case"), EVERY)
def test_every_changed_place_is_noticed(name: str, case: dict[str, Any], implementation: Any) -> None:
    for path in places(case):
        assert notices(checks.check_case, implementation, changed(case, path)), path


@pytest.mark.parametrize("case", FAILING, ids=[case["name"] for case in FAILING])
def test_every_changed_place_of_a_failing_case_is_noticed(case: dict[str, Any]) -> None:
    for path in places(case):
        wrong = changed(case, path)
        for implementation in IMPLEMENTATIONS.values():
            assert notices(check_failing, wrong, implementation), path


class TestFiles:
    def test_the_generator_still_makes_them(self) -> None:
        for name, content in make_failing.make_all().items():
            assert (make_rounds.ROOM / name).read_text(encoding="utf-8") == make_vectors.to_text(content)

    def test_all_of_them_are_there_and_small(self) -> None:
        paths = list(make_rounds.ROOM.glob("*"))
        assert sorted(path.name for path in paths) == sorted(FILES)
        assert sum(path.stat().st_size for path in paths) < 40_000

    def test_catching_up_is_refused_in_every_way_that_there_is(self) -> None:
        assert {case["name"] for case in FAILING} >= {
            "catch-up-one-fewer",
            "catch-up-one-of-them-twice",
            "catch-up-another-session",
            "catch-up-another-configuration",
            "catch-up-another-model",
            "catch-up-another-round",
            "catch-up-a-stranger",
            "catch-up-not-of-the-cohort",
        }

    def test_stories_meet_every_rule(self) -> None:
        traces = [case for case in CASES[make_rounds.ROUNDS] if case["function"] == "trace"]
        said = {
            (event.split()[0], word)
            for case in traces
            for event, word in zip(case["arguments"]["events"], case["result"]["said"], strict=True)
        }
        assert said >= {
            ("begin", "ok"),
            ("begin", "UnexpectedMessage"),
            ("begin", "UnresolvedExecution"),
            ("begin", "ContextMismatch"),
            ("admit", "ok"),
            ("admit", "UnresolvedExecution"),
            ("late", "looked at"),
            ("late", "passed over"),
            ("sum", "ok"),
            ("sum", "UnexpectedMessage"),
            ("catch", "ok"),
            ("catch", "nothing"),
            ("end", "ok"),
            ("end", "ContextMismatch"),
        }


class TestTheTableOfInvariants:
    """`crypto/vectors/README.md` says which vectors hold each invariant, and which no vector can hold."""

    ROWS = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", TABLE, re.MULTILINE)

    def test_there_is_a_row_for_each(self) -> None:
        assert [int(number) for number, *_ in self.ROWS] == list(range(1, 14))

    def test_what_it_names_is_there(self) -> None:
        names = {case["name"] for case in FAILING}
        for file in ("failing.json", "failing_enrolment.json"):
            names |= {case["name"] for case in recorded.load(file)["cases"]}
        functions = {case["function"] for cases in CASES.values() for case in cases}
        for file in checks.CASES:
            functions |= {case["function"] for case in recorded.load(file)["cases"]}
        stories = set(make_rounds.TRACES)
        for number, _, held, otherwise in self.ROWS:
            named = re.findall(r"`([^`]+)`", held)
            assert named or held == "-"
            assert held != "-" or otherwise != "-"
            for one in named:
                whole = one in names | functions | stories or (FOLDER / one).is_file()
                some = one.endswith("…") and any(name.startswith(one[:-1]) for name in names)
                assert whole or some, f"{number}: {one}"
            for path in re.findall(r"`(tests/[^`]+)`", otherwise):
                assert (FOLDER.parents[1] / path).exists(), path


class TestBeyondTheVectors:
    @pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32, 2**62 + 12345])
    def test_long_first_models_agree(self, seed: int) -> None:
        sizes = {"classes": 50, "context_tokens": 16, "text_width": 16, "feature_size": 8, "keys": 4}
        assert package_rounds.first_model("fedapt", **sizes, seed=seed) == reference_first_model.first_model(
            "fedapt", **sizes, seed=seed
        )
