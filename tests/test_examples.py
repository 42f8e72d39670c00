"""The scripts in examples/ as a newcomer runs them: each after the other, on what the first one made."""

import os
import subprocess
from pathlib import Path

import pytest

from fedapt_secure.learning.data.layouts.office_caltech10 import OFFICE_CALTECH10
from fedapt_secure.learning.data.reading.images import open_rgb
from tests.support import warm

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.integration


def example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*warm.program("script"), str(EXAMPLES / name), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the run folder of the first example, and what it printed."""
    folder = tmp_path_factory.mktemp("examples") / "run"
    done = example("federation_on_one_machine.py", folder, 2)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_federation_on_one_machine(run) -> None:
    folder, printed = run
    assert (folder / "model.safetensors").exists()
    for name in ("clinic-1", "clinic-2", "clinic-3"):
        assert f"{name} spent epsilon 7." in printed
    assert "a seven of ink: " in printed


def test_predict_images(run, tmp_path: Path) -> None:
    folder, _ = run
    images = sorted((folder / "parties" / "clinic-2" / "data").glob("*/*.png"))[:3]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    done = example("predict_images.py", folder / "model.safetensors", *images, broken)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(path) for path in (*images, broken)]
    assert all("% (then " in line for line in lines[:3])
    assert "skipped" in lines[3]


def test_evaluate_own_data(run, tmp_path: Path) -> None:
    folder, _ = run
    for number, domain in enumerate(("ink", "chalk", "print"), start=1):
        (tmp_path / domain).symlink_to(folder / "parties" / f"clinic-{number}" / "data")
    done = example("evaluate_own_data.py", folder / "model.safetensors", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "images: top-1 " in done.stdout
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[1:4]] == ["ink", "chalk", "print"]
    assert " taken for " in done.stdout


def test_make_paper_data(tmp_path: Path) -> None:
    done = example("make_paper_data.py", "office-caltech10", tmp_path, 2)
    assert done.returncode == 0, done.stderr
    found = OFFICE_CALTECH10.read(tmp_path, ())
    assert [len(records) for records in found.by_domain.values()] == [20, 20, 20, 20]
    assert found.class_names == OFFICE_CALTECH10.class_names
    for records in found.by_domain.values():
        open_rgb(records[0].path.read_bytes())


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    scripts = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(scripts) >= 3
    assert all(f'"{name}"' in tested for name in scripts)
