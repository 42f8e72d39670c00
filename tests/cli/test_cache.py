"""`fedapt-secure cache` on real caches: what is there, in which folder, and what goes."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedapt_client.settings import ClientSettings
from fedapt_secure.cli.app import run
from fedapt_secure.config.settings import write_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.data.features.shard import Shard
from fedapt_secure.learning.data.features.store import FeatureStore, StoreIdentity
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.simulate.setup.policies import cache_path


def fill(cache: Path, *models: str, images: int = 3) -> None:
    for model in models:
        store = FeatureStore(cache, StoreIdentity(model, "weights", "preprocessing", 2, "plain"))
        digests = np.arange(images * 32, dtype=np.uint8).reshape(images, 32)
        store.add(Shard(digests, np.ones((images, 2), np.float32), np.ones(images, np.bool_), {}))


def institution(folder: Path, name: str, cache: str = "cache") -> Path:
    folder.mkdir(parents=True)
    settings = ClientSettings(name=name, port=1, data=Path("data"), cache=Path(cache))
    write_yaml(folder / "client.yaml", settings, comment="Ours.")
    return folder


def shown(capsys: pytest.CaptureFixture[str], directory: Path) -> list[tuple[str, str, int]]:
    capsys.readouterr()
    assert run(["cache", "show", "--dir", str(directory), "--json"]) == ExitStatus.DONE
    stores = json.loads(capsys.readouterr().out)["stores"]
    return [(one["owner"], one["model"], one["images"]) for one in stores]


def test_an_institution_shows_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = institution(tmp_path / "clinic-1", "clinic-1")
    assert shown(capsys, folder) == []
    fill(folder / "cache", "tiny")
    assert shown(capsys, folder) == [("clinic-1", "tiny", 3)]
    elsewhere = institution(tmp_path / "clinic-2", "clinic-2", str(tmp_path / "features"))
    fill(tmp_path / "features", "ViT-B-32", images=5)
    assert shown(capsys, elsewhere) == [("clinic-2", "ViT-B-32", 5)]
    assert run(["cache", "show", "--dir", str(elsewhere)]) == ExitStatus.DONE
    out = capsys.readouterr().out
    for said in ("clinic-2", "ViT-B-32", "plain", " 5 ", "weights"):
        assert said in out


def test_a_run_folder_shows_all_its_parties(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("clinic-1", "clinic-2"):
        fill(institution(tmp_path / "parties" / name, name) / "cache", "tiny")
    (tmp_path / "parties" / "coordinator").mkdir()
    assert shown(capsys, tmp_path) == [("clinic-1", "tiny", 3), ("clinic-2", "tiny", 3)]


def test_lasting_folders_of_simulations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SimulateSettings(cache=tmp_path / "features")
    for name in ("clinic-1", "clinic-2"):
        fill(cache_path(settings, name), "tiny")
    assert (tmp_path / "features").stat().st_mode & 0o777 == 0o700
    assert shown(capsys, tmp_path / "features") == [("clinic-1", "tiny", 3), ("clinic-2", "tiny", 3)]
    assert shown(capsys, tmp_path / "features" / "clinic-2") == [("clinic-2", "tiny", 3)]
    assert cache_path(SimulateSettings(), "clinic-1") == Path("cache")


def test_clear_takes_one_model_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = institution(tmp_path / "clinic-1", "clinic-1")
    fill(folder / "cache", "tiny", "ViT-B-32")
    clear = ["cache", "clear", "--dir", str(folder), "--yes"]
    assert run([*clear, "--model", "ViT-B-16"]) == ExitStatus.BAD_INPUT
    assert "there are ViT-B-32, tiny" in capsys.readouterr().err
    assert run([*clear, "--model", "tiny"]) == ExitStatus.DONE
    assert "old blocks may remain" in capsys.readouterr().out
    assert shown(capsys, folder) == [("clinic-1", "ViT-B-32", 3)]
    assert run(clear) == ExitStatus.DONE
    assert shown(capsys, folder) == []
    assert run(clear) == ExitStatus.DONE, "nothing to do is no mistake"


def test_what_pictures_are_known_by_goes_with_the_last_features(tmp_path: Path) -> None:
    folder = institution(tmp_path / "clinic-1", "clinic-1")
    fill(folder / "cache", "tiny", "ViT-B-32")
    marks = folder / "cache" / "marks-2"
    marks.mkdir()
    (marks / "x.marks").write_bytes(b"x")
    for model, left in (("tiny", True), ("ViT-B-32", False)):
        assert run(["cache", "clear", "--dir", str(folder), "--yes", "--model", model]) == ExitStatus.DONE
        assert marks.exists() is left


def test_clear_asks_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = institution(tmp_path / "clinic-1", "clinic-1")
    fill(folder / "cache", "tiny")
    assert run(["cache", "clear", "--dir", str(folder)]) == ExitStatus.BAD_INPUT
    assert "nobody can be asked: give --yes" in capsys.readouterr().err
    assert shown(capsys, folder) == [("clinic-1", "tiny", 3)]


@pytest.mark.parametrize("command", [["show"], ["clear", "--yes"]])
def test_another_folder_is_no_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keep.txt").write_text("mine")
    for directory, said in [(tmp_path, "there is no feature cache"), (tmp_path / "gone", "cannot look into")]:
        assert run(["cache", *command, "--dir", str(directory)]) == ExitStatus.BAD_INPUT
        assert said in capsys.readouterr().err
    assert (tmp_path / "notes" / "keep.txt").exists()
