"""What a layout of splits and draws says of where results scatter."""

import numpy as np
import pytest

from benchmarks.learning.scatter import Scatter


def test_both_deviations_are_found_again() -> None:
    rng = np.random.default_rng(0)
    table = 60 + rng.normal(0, 3, (400, 1)) + rng.normal(0, 1, (400, 10))
    found = Scatter.of(table)
    assert found.mean == pytest.approx(60, abs=0.5)
    assert found.of_splits == pytest.approx(3, rel=0.1)
    assert found.of_draws == pytest.approx(1, rel=0.1)
    assert found.total == pytest.approx(10**0.5, rel=0.1)


def test_splits_that_do_not_matter_bring_nothing() -> None:
    found = Scatter.of(np.array([[1.0, 3.0], [3.0, 1.0]]))
    assert (found.mean, found.of_splits) == (2.0, 0.0)
    assert found.total == found.of_draws == pytest.approx(2**0.5)
