"""What the learning tests share: the shipped backbone and small models with random weights."""

import json

import pytest
import torch

from fedapt_secure.learning.clip.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.dealing import deal_dataset

CLASS_NAMES = ("cat", "fire_truck", "sea anemone")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return load_backbone()


@pytest.fixture(scope="session")
def small_model_folder(tmp_path_factory):
    """Return a function that writes a small open_clip configuration and returns its model name."""

    def make(name: str, *, custom_text: bool = False, **text_cfg) -> str:
        folder = tmp_path_factory.mktemp(name)
        model_cfg = {
            "embed_dim": 24,
            "custom_text": custom_text,
            "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
            "text_cfg": {
                "context_length": 77,
                "vocab_size": 49408,
                "width": 16,
                "heads": 2,
                "layers": 2,
                **text_cfg,
            },
        }
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
        return f"local-dir:{folder}"

    return make


@pytest.fixture(scope="session")
def small(small_model_folder) -> Backbone:
    """77 tokens, as the real models have."""
    return load_backbone(small_model_folder("small"), RANDOM)


@pytest.fixture(scope="session")
def small_custom(small_model_folder) -> Backbone:
    """The other class of model in open_clip, whose text tower is a module of its own."""
    return load_backbone(small_model_folder("custom", custom_text=True), RANDOM)


@pytest.fixture
def prompted(tiny):
    """Return a function that builds prompts of three classes on the shipped backbone."""

    def make(class_specific: bool = True, backbone: Backbone = tiny, context_tokens: int = 4, **options):
        return PromptedText(backbone, CLASS_NAMES, context_tokens, class_specific, **options)

    return make


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """All digits, dealt to five institutions with seed 0."""
    folder = tmp_path_factory.mktemp("digits")
    return deal_dataset("digits", 5, 0, None, lambda name: folder / name)
