"""Clip ranges: what a round brings about is representable, or the session does not begin."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_secure.protocol.resolution import COARSEST, NARROWEST, check_clip, typical_change
from tests.protocol.federation import Federation

CHANGES = st.floats(1e-9, 1e3)
CLIPS = st.floats(1e-6, 1e6)


@given(st.floats(1e-8, 1e4), st.floats(0, 0.999), st.integers(1, 200))
def test_the_farthest_a_round_can_go_is_the_sum_of_its_steps(
    rate: float, momentum: float, steps: int
) -> None:
    """Against SGD with momentum itself, all of whose gradients point one way."""
    velocity = position = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1.0
        position += rate * velocity
    found = typical_change(
        learning_rate=rate, momentum=momentum, max_grad_norm=1.0, local_steps=steps, values=1
    )
    assert math.isclose(found, position, rel_tol=1e-6)


@settings(deadline=None)
@given(CLIPS, st.integers(1, 4096), CHANGES)
def test_what_is_let_through_survives_the_encoding(clip: float, summands: int, change: float) -> None:
    assume(not refusal(clip, summands, change))
    update = np.random.default_rng(0).normal(0, change, 1000)
    encoding = FixedPoint(summands, clip)
    words, _ = encoding.encode(update)
    inside = np.abs(update) <= clip
    assert inside.any()
    lost = encoding.decode(words)[inside] - update[inside]
    assert np.sqrt((lost**2).mean()) <= 0.11 * change


def refusal(clip: float, summands: int, change: float) -> str:
    """Return what is said against a clip range; empty where nothing is."""
    try:
        check_clip(clip, summands, change)
    except InvalidInput as error:
        return str(error)
    return ""


@given(CLIPS, st.integers(1, 4096), CHANGES)
def test_a_refusal_says_what_would_do(clip: float, summands: int, change: float) -> None:
    said = refusal(clip, summands, change)
    if said.endswith("no clip has finer ones: raise learning_rate or local_steps"):
        assert refusal(1e-9, summands, change)
    elif said:
        found = re.search(r"choose (\S+) or (more|less)$", said)
        assert found is not None
        assert (float(found[1]) > clip) == (found[2] == "more")
        assert not refusal(float(found[1]), summands, change)


def test_only_what_loses_updates_is_refused() -> None:
    finest = FixedPoint(5, 4.0).resolution
    check_clip(4.0, 5, finest / COARSEST)
    with pytest.raises(InvalidInput, match=r"clip 4 is too large: .* of 5 institutions .* steps of 1.5e-08"):
        check_clip(4.0, 5, finest / COARSEST * 0.99)
    check_clip(4.0, 5, 4.0 / NARROWEST)
    with pytest.raises(InvalidInput, match="clip 4 is too small: .* nearly all of it would be cut off"):
        check_clip(4.0, 5, 4.1 / NARROWEST)


@pytest.mark.parametrize(("clip", "said"), [(1e6, "too large"), (1e-6, "too small")])
def test_a_session_with_such_a_clip_does_not_begin(clip: float, said: str) -> None:
    """The coordinator calls this before it offers, an institution before anything is spent."""
    configuration = Federation(3, rounds=3).configuration
    configuration.check_scheme()
    plan = configuration.plan.model_copy(update={"clip": clip, "learning_rate": 1e-3 if clip > 1 else 0.5})
    with pytest.raises(InvalidInput, match=f"is {said}: a round of this plan changes a parameter by about"):
        configuration.model_copy(update={"plan": plan}).check_scheme()
