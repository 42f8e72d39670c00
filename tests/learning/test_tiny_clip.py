from importlib import resources

import numpy as np
import pytest

from fedapt_secure.learning.tiny_clip.measure import measure


@pytest.fixture(scope="module")
def result(tiny):
    return measure(tiny, seed=0)


def test_zero_shot_leaves_room_to_learn(result):
    assert result.domains == ("ink", "chalk", "print", "pencil", "scan")
    assert 0.45 <= np.mean(result.zero_shot) <= 0.55


def test_the_features_know_more_than_the_prompts_ask(result):
    assert np.mean(result.probe_test) >= np.mean(result.zero_shot_test) + 0.20
    assert np.mean(result.probe_test) >= np.mean(result.zero_shot) + 0.20


def test_the_shipped_weights_are_small():
    weights = resources.files("fedapt_secure.learning.tiny_clip") / "open_clip_model.safetensors"
    assert len(weights.read_bytes()) < 8_000_000
