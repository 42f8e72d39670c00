"""`preprocess.json`, followed with Pillow and numpy alone, gives the pixels of the CLIP's own code."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.export.clip_facts import preprocess_settings
from fedapt_secure.export.preprocessing import described, write_preprocessing
from fedapt_secure.learning.clip.backbone import load_backbone

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
SIZES = [(200, 150), (150, 201), (31, 90), (64, 64), (20, 20), (333, 17)]


def of_the_page():
    """Return the function that the documentation shows."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    return names["pixels"]


def images():
    rng = np.random.default_rng(0)
    for width, height in SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
        yield coarse.resize((width, height), Image.Resampling.NEAREST)


def stand_in(**settings):
    """Return what has a CLIP's preprocessing and nothing else of it."""
    config = PreprocessCfg(**settings)
    size = config.size if isinstance(config.size, tuple) else (config.size, config.size)
    fields = {
        "image_size": size,
        "mean": config.mean,
        "std": config.std,
        "interpolation": config.interpolation,
        "resize_mode": config.resize_mode,
        "fill": config.fill_color,
    }
    identity = load_backbone().identity.model_copy(update=fields)
    return SimpleNamespace(
        name="stand-in", identity=identity, preprocess=image_transform_v2(config, is_train=False)
    )


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [32, (48, 48), (40, 64)])
def test_plain_pillow_and_numpy_give_the_same(mode, interpolation, size) -> None:
    backbone = stand_in(size=size, resize_mode=mode, interpolation=interpolation, fill_color=77)
    settings = json.loads(json.dumps(described(backbone)))
    for image in images():
        np.testing.assert_allclose(
            of_the_page()(image, settings), backbone.preprocess(image).numpy(), atol=1e-5
        )


def test_the_shipped_clip(tmp_path) -> None:
    backbone = load_backbone()
    assert write_preprocessing(tmp_path, backbone) == ["preprocess.json"]
    settings = json.loads((tmp_path / "preprocess.json").read_text())
    assert settings["size"] == [32, 32]
    for image in images():
        np.testing.assert_allclose(
            of_the_page()(image, settings), backbone.preprocess(image).numpy(), atol=1e-5
        )


@pytest.mark.parametrize(
    ("mode", "says"), [("shortest", "just covers"), ("longest", "Pad to size"), ("squash", "whatever")]
)
def test_the_steps_are_those_of_the_mode(mode, says) -> None:
    steps = described(stand_in(resize_mode=mode))["steps"]
    assert sum(says in step for step in steps) == 1


def test_an_unknown_mode_is_refused() -> None:
    backbone = stand_in()
    backbone.identity = backbone.identity.model_copy(update={"resize_mode": "sideways"})
    with pytest.raises(InvalidInput, match="not known here"):
        preprocess_settings(backbone)
