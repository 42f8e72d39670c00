"""A session without labels at an institution: labels that are there change nothing but the evaluation."""

import shutil

import numpy as np
import pytest
import torch

from fedapt_client.settings import ClientSettings
from fedapt_client.training.learner import Learner
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.data.dealing import DIGIT_TEMPLATE
from fedapt_secure.learning.data.digits.scans import CLASS_NAMES, write_digits
from fedapt_secure.privacy.budget import SessionShare
from tests.protocol.federation import Federation

HOW = {"augmentations": ("jitter",), "views": 2, "consistency_rounds": 1}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three copies of some digits: in their class folders, in wrong ones, and in none."""
    source, root = tmp_path_factory.mktemp("digits"), tmp_path_factory.mktemp("copies")
    write_digits(source, "ink", range(0, 1797, 25), False, np.random.default_rng(0))
    for path in sorted(source.glob("*/*.png")):
        label = CLASS_NAMES.index(path.parent.name)
        for kind, place in (
            ("right", path.parent.name),
            ("wrong", CLASS_NAMES[(label + 3) % 10]),
            ("none", "."),
        ):
            target = root / kind / place / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return root


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture
def learner(images, backbone, tmp_path):
    def make(kind: str, *, private: bool = False, **changes: object) -> Learner:
        how = HOW | ({"consistency_rounds": 0} if private else {})
        plan = {
            "class_names": CLASS_NAMES,
            "zero_shot_template": DIGIT_TEMPLATE,
            "weight_hash": backbone.weight_hash,
            "model_identity": backbone.identity,
            "text_width": 64,
            "feature_size": 64,
            "context_tokens": 4,
            "rounds": 2,
            "sample_rate": 1.0,
            "differential_privacy": private,
            "unsupervised": how,
            "initial_context": initial_context(backbone, "a photo of a"),
        }
        federation = Federation(3, **plan | changes)
        settings = ClientSettings(
            name="clinic-1",
            port=1,
            data=images / kind,
            device="cpu",
            experiment_seed=1,
            insecure_deterministic_noise=private,
        )
        folder = tmp_path / f"{kind}-{private}"
        folder.mkdir()
        return Learner(settings, folder, federation.configuration, SessionShare(8.0, 0.01))

    return make


def test_a_transductive_session_trains_on_what_is_held_out(learner):
    """On these images, without their labels, and on no others; what is evaluated stays the same."""
    usual = learner("right")
    other = learner("wrong", unsupervised=HOW | {"transductive": True})
    assert other.declared_records < usual.declared_records
    data = other._training_data(1)
    torch.testing.assert_close(data.features, other._features.test[0])
    assert len(other._training_data(2).features) == usual.split[1]
    found = updates(other)
    assert all(np.isfinite(one).all() and one.any() for one in found)


def updates(learner: Learner) -> list[np.ndarray]:
    plan = learner._configuration.plan
    start, key = plan.initial_model(), np.full(plan.shape.key, 0.5, np.float32)
    return [learner.train(start, key, number) for number in (1, 2)]


@pytest.mark.parametrize("private", [False, True])
def test_labels_that_are_there_are_not_trained_on(learner, private):
    right, wrong, none = (updates(learner(kind, private=private)) for kind in ("right", "wrong", "none"))
    for one, other, third in zip(right, wrong, none, strict=True):
        assert np.abs(one).max() > 1e-3
        # In other folders the same files come in another order: sums of floats differ in the last digits.
        np.testing.assert_allclose(one, other, atol=1e-4)
        np.testing.assert_allclose(one, third, atol=1e-4)


def test_only_images_with_a_label_are_evaluated(learner):
    keys = (np.full((4, 64), 0.5, np.float32),) * 2
    found = {}
    for kind in ("right", "wrong", "none"):
        one = learner(kind)
        found[kind] = one.conclude(one._configuration.plan.initial_model(), keys)
    right, wrong, none = found["right"], found["wrong"], found["none"]
    assert right.unlabelled == wrong.unlabelled == 0
    assert right.scores.zero_shot_correct > wrong.scores.zero_shot_correct
    assert (none.scores.test_records, none.scores.tuned_correct) == (0, 0)
    assert none.unlabelled == right.scores.test_records > 5


def test_a_session_with_labels_refuses_images_without(learner):
    with pytest.raises(InvalidInput, match="there is no image in"):
        learner("none", unsupervised=None)


def test_words_that_do_not_fit_their_values_are_refused(learner, backbone):
    false = initial_context(backbone, "a scan of a").model_copy(update={"words": "a photo of a"})
    with pytest.raises(InvalidInput, match="is not what tiny makes of 'a photo of a'"):
        learner("right", initial_context=false)
