"""The configurations of the paper: valid as they stand, its figures, an epoch at batch 256 by arithmetic."""

from pathlib import Path

import pytest

from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.data.reading.records import TEST_SHARE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "paper"
TRAINING_RECORDS = {
    "domainnet": (33_525, 36_023, 50_416, 120_750, 120_906, 48_212),
    "office_caltech10": tuple((1 - TEST_SHARE) * count for count in (958, 1123, 157, 295)),
}
"""Published sizes; Office-Caltech10 comes without a split, so ours takes its share for tests."""
BATCH = 256


def read(name: str) -> SimulateSettings:
    return build(SimulateSettings, read_yaml(FOLDER / f"{name}.yaml"), source=name)


def test_there_are_the_four() -> None:
    expected = {f"{data}_{kind}" for data in TRAINING_RECORDS for kind in ("supervised", "unsupervised")}
    assert {path.stem for path in FOLDER.iterdir()} == expected


@pytest.mark.parametrize("kind", ["supervised", "unsupervised"])
@pytest.mark.parametrize("data", TRAINING_RECORDS)
def test_they_say_what_the_paper_says(data: str, kind: str) -> None:
    settings = read(f"{data}_{kind}")
    assert (settings.model, settings.pretrained, settings.method) == ("ViT-B-32", "openai", "fedapt")
    assert settings.dataset == data.replace("_", "-")
    assert (settings.learning_rate, settings.gradient_units) == (0.01, "loss")
    assert (settings.momentum, settings.weight_decay, settings.temperature) == (0.9, 1e-5, 0.01)
    assert (settings.context_tokens, settings.shared_context) == (24, False)
    assert (settings.no_dp, settings.keys, settings.institutions_per_domain) == (True, None, None)
    if kind == "supervised":
        assert (settings.rounds, settings.unsupervised) == (50, False)
    else:
        assert settings.unsupervised
        assert settings.consistency_rounds == 4
        assert settings.rounds - settings.consistency_rounds == 10
        assert settings.pseudo_label_confidence == 0.75
        assert settings.initial_context == "a photo of a"


@pytest.mark.parametrize("kind", ["supervised", "unsupervised"])
@pytest.mark.parametrize("data", TRAINING_RECORDS)
def test_a_round_is_an_epoch_and_a_batch_256_on_average(data: str, kind: str) -> None:
    settings, records = read(f"{data}_{kind}"), TRAINING_RECORDS[data]
    assert settings.local_steps * settings.sample_rate == pytest.approx(1, rel=1e-3)
    mean_batch = settings.sample_rate * sum(records) / len(records)
    assert mean_batch == pytest.approx(BATCH, rel=0.1)


def test_each_is_explained() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    for path in FOLDER.iterdir():
        assert f"configs/paper/{path.name}" in text
