"""How many examples a property is tried with: fewer in the gate, where whole sessions are played for each."""

import os
from typing import Final

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
