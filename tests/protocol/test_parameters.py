"""The flat vector is the protocol's layout: exact, checked, reproducible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, MalformedMessage
from fedapt_secure.protocol.messages import model_from_bytes, model_to_bytes
from fedapt_secure.protocol.methods import METHODS
from fedapt_secure.protocol.parameters import ParameterShape, flatten, initial_parameters, unflatten

SHAPES = st.builds(
    ParameterShape,
    classes=st.integers(2, 5),
    context_tokens=st.integers(1, 4),
    text_width=st.integers(1, 6),
    feature_size=st.integers(1, 6),
    domains=st.integers(1, 4),
    class_specific=st.booleans(),
    method=st.sampled_from(sorted(METHODS)),
    tower_values=st.integers(1, 20),
)


@given(SHAPES)
def test_round_trip(shape: ParameterShape) -> None:
    vector = initial_parameters(shape, 3)
    assert vector.shape == (shape.size,)
    parts = unflatten(shape, vector)
    assert {name: values.shape for name, values in parts.items()} == {
        part.name: part.shape for part in shape.parts
    }
    assert np.array_equal(flatten(shape, dict(reversed(parts.items()))), vector)
    first = next(iter(parts.values()), np.zeros(0))  # zero-shot has none
    assert np.array_equal(vector[: first.size], first.ravel())
    assert np.array_equal(model_from_bytes(model_to_bytes(vector), shape), vector)


SHAPE = ParameterShape(2, 2, 3, 4, 2)


def test_the_seed_decides_and_the_scale_is_the_papers() -> None:
    large = ParameterShape(10, 24, 512, 512, 5)
    vector = initial_parameters(large, 1)
    assert np.array_equal(vector, initial_parameters(large, 1))
    assert not np.array_equal(vector, initial_parameters(large, 2))
    assert abs(vector.std() - 0.02) < 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e4])
def test_values_no_honest_run_gives(bad: float) -> None:
    vector = initial_parameters(SHAPE, 0)
    vector[3] = bad
    with pytest.raises(InvalidInput, match="not used"):
        unflatten(SHAPE, vector)


def test_wrong_sizes() -> None:
    with pytest.raises(InvalidInput, match="expected"):
        unflatten(SHAPE, np.zeros(3, np.float32))
    with pytest.raises(MalformedMessage):
        model_from_bytes(bytes(5), SHAPE)
