"""How much of a test is tried: less in the gate, where whole sessions are played for each example."""

import os
from collections.abc import Iterable
from typing import Any, Final

import pytest

GATE: Final = "FEDAPT_TESTS_GATE"
"""Set where long tests are left out (``make test``)."""


def note_the_gate(config: pytest.Config) -> None:
    """Note for this process, and those that it starts, whether this run leaves out what is slow."""
    if "not slow" in config.getoption("markexpr", ""):
        os.environ[GATE] = "yes"


def examples(in_the_gate: int, otherwise: int) -> int:
    """Return how many examples to try.

    Args:
        in_the_gate: With ``make test``.
        otherwise: With ``make test-all``, or where a test is run by itself.
    """
    return in_the_gate if GATE in os.environ else otherwise


def often(cases: Iterable[Any], every: int) -> list[Any]:
    """Return the cases of a test that has many alike: most of them in `make test-all` only.

    Args:
        cases: For `pytest.mark.parametrize`; a tuple is one case of several values.
        every: How many there are to each that the gate tries.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if place % every == 0 else pytest.mark.slow,
        )
        for place, case in enumerate(cases)
    ]
