"""The session's CLIP and the one here: equal in all that features follow from, or no part is taken."""

import pytest

from fedapt_client.training.session_model import session_backbone
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import load_backbone
from tests.protocol.federation import Federation


def configuration(backbone, **changes):
    facts = {
        "weight_hash": backbone.weight_hash,
        "model_identity": backbone.identity,
        "text_width": backbone.text_width,
        "feature_size": backbone.feature_size,
    }
    return Federation(2, **facts | changes).configuration


def test_the_same_model_is_taken():
    backbone = load_backbone()
    assert session_backbone(configuration(backbone), "cpu", "float32").model_hash == backbone.model_hash


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("activation", "quick-gelu"),
        ("mean", (0.4, 0.5, 0.5)),
        ("std", (0.4, 0.5, 0.5)),
        ("interpolation", "bilinear"),
        ("resize_mode", "longest"),
        ("image_size", (32, 64)),
        ("fill", 9),
        ("tokenizer", "5a" * 32),
        ("architecture", "5a" * 32),
    ],
)
def test_another_one_is_refused_by_the_fields_name(field, other):
    backbone = load_backbone()
    identity = backbone.identity.model_copy(update={field: other})
    with pytest.raises(InvalidInput, match=field) as caught:
        session_backbone(configuration(backbone, model_identity=identity), "cpu", "float32")
    assert caught.value.code == "model_differs"
    assert "\n" not in str(caught.value)


def test_so_are_other_weights():
    backbone = load_backbone()
    with pytest.raises(InvalidInput, match="weights of tiny here are not the session's") as caught:
        session_backbone(configuration(backbone, weight_hash="5a" * 32), "cpu", "float32")
    assert caught.value.code == "model_differs"
