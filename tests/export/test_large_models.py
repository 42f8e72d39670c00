"""CLIPs as they are in use, with random weights: tracers take their towers, and open_clip builds them."""

import pytest

from fedapt_secure.export.exporting import FORMS, Wanted, export
from fedapt_secure.learning.bundle import write_bundle
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from tests.export.conftest import make_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MOST_BYTES = 560_000_000
"""Of a ViT-B-32: image tower and text tower in float32, without token embeddings."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32-quickgelu", "RN50"])
def test_random_weights(name, form, tmp_path) -> None:
    bundle = make_bundle(keys=3, backbone=load_backbone(name, RANDOM))
    write_bundle(tmp_path / "model.safetensors", bundle)
    made = export(Wanted(bundle=tmp_path / "model.safetensors", form=form, out=tmp_path / "out"))
    assert made.checked.largest < 1e-4
    assert sum(one.size_bytes for one in made.files) < MOST_BYTES
