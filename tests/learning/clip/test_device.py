"""Device, precision and sizes: what follows from what; the checks that need a GPU are in test_cuda.py."""

import pytest
import torch

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip import device as module
from fedapt_secure.learning.clip.backbone import TINY, choose_precision
from fedapt_secure.learning.clip.device import (
    CPU,
    gradient_bytes,
    images_at_once,
    in_precision,
    resident,
    resolve_device,
    resolve_precision,
)

CUDA = torch.device("cuda")  # a name; nothing here computes on it


@pytest.fixture
def card(monkeypatch):
    """Pretends that torch describes a GPU; resolving and sizing ask it nothing else."""

    def describe(capability=(8, 0), memory=80 << 30):
        properties = type("Properties", (), {"total_memory": memory})()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    return describe


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InvalidInput, match="auto, cpu or cuda"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="no CUDA device"):
            resolve_device("cuda")


def test_a_cpu_computes_in_float32_unless_asked():
    assert resolve_precision("auto", CPU) == "float32"
    assert resolve_precision("bfloat16", CPU) == "bfloat16"
    with pytest.raises(InvalidInput, match="the precision is auto, float32, bfloat16, not half"):
        resolve_precision("half", CPU)


def test_a_gpu_computes_in_bfloat16_where_it_has_it(card):
    card(capability=(9, 0))
    assert resolve_precision("auto", CUDA) == resolve_precision("bfloat16", CUDA) == "bfloat16"
    assert resolve_precision("float32", CUDA) == "float32"
    card(capability=(7, 5))
    assert resolve_precision("auto", CUDA) == "float32"
    with pytest.raises(InvalidInput, match="this GPU has no bfloat16"):
        resolve_precision("bfloat16", CUDA)


def test_auto_leaves_the_tiny_model_in_float32(card):
    card(capability=(9, 0))
    assert choose_precision("auto", CUDA, TINY) == "float32"
    assert choose_precision("bfloat16", CUDA, TINY) == "bfloat16"
    assert choose_precision("auto", CUDA, "ViT-B-32") == "bfloat16"
    assert choose_precision("auto", CPU, "ViT-B-32") == "float32"
    with pytest.raises(InvalidInput, match="the precision is auto"):
        choose_precision("half", CUDA, TINY)


@pytest.mark.parametrize(
    ("memory_gib", "images", "gradients_mib"),
    [(80, 256, 2560), (16, 128, 512), (8, 64, 256), (256, 256, 4096)],
)
def test_sizes_follow_from_the_cards_memory(card, memory_gib, images, gradients_mib):
    card(memory=memory_gib << 30)
    assert images_at_once(CUDA) == images
    assert gradient_bytes(CUDA) == gradients_mib << 20
    assert (images_at_once(CPU), gradient_bytes(CPU)) == (64, 256 << 20)


def test_features_too_large_for_a_gpu_stay_where_they_are():
    features = torch.zeros(100, 8)
    assert resident(features, CUDA, free_bytes=4 * features.nbytes - 1) is features
    assert resident(features, CPU) is features


def test_float32_holds_inside_a_context_of_less():
    one = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
        with in_precision("float32", CPU):
            assert (one @ one).dtype == torch.float32
    with in_precision("bfloat16", CPU):
        assert (one @ one).dtype == torch.bfloat16
    assert module.describe(CPU) == "cpu"
