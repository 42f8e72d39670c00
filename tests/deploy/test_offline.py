"""A folder for offline installation: sealed, checked, and installed from without an index."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SEAL = Path(__file__).parents[2] / "client" / "offline" / "seal.py"
OPTIONS = ("--no-index", "--require-hashes", "--disable-pip-version-check")


def seal(folder: Path, *options: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-I", SEAL, *options, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (status != 0)
    return done.stdout if status == 0 else done.stderr


def wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """Write a wheel with one empty module, as small as pip takes it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    folder = tmp_path / "kit"
    for name in ("wheels", "weights"):
        (folder / name).mkdir(parents=True)
    for name in ("one_package", "another"):
        wheel(folder / "wheels", name)
    (folder / "weights" / "model.safetensors").write_bytes(os.urandom(100_000))
    return folder


def install(kit: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", *OPTIONS, "--find-links", kit / "wheels"]
    return subprocess.run(
        [*map(str, command), "-r", str(kit / "requirements.lock"), "--target", str(target)],
        capture_output=True, text=True, check=False, env=os.environ | {"PIP_CONFIG_FILE": os.devnull},
    )  # fmt: skip


def test_sealed_copied_checked_installed(kit: Path, tmp_path: Path) -> None:
    total = seal(kit).splitlines()[-1]
    copy = tmp_path / "usb stick"
    shutil.copytree(kit, copy)
    assert seal(copy, "--check").splitlines()[-1] == total
    sums = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=copy, check=False
    )
    assert sums.returncode == 0
    done = install(copy, tmp_path / "installed")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed" / "one_package.py").exists()


def test_sealing_again_gives_the_same(kit: Path) -> None:
    assert seal(kit) == seal(kit)


@pytest.mark.parametrize("name", ["wheels/another-1.0-py3-none-any.whl", "weights/model.safetensors"])
def test_one_changed_bit_is_noticed(kit: Path, name: str) -> None:
    seal(kit)
    content = bytearray((kit / name).read_bytes())
    content[len(content) // 2] ^= 1
    (kit / name).write_bytes(content)
    assert f"{name} is not the file that was sealed" in seal(kit, "--check", status=2)


def test_pip_refuses_another_wheel_of_the_same_name(kit: Path, tmp_path: Path) -> None:
    seal(kit)
    with zipfile.ZipFile(kit / "wheels" / "another-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("extra.py", "")
    done = install(kit, tmp_path / "installed")
    assert done.returncode == 1
    assert "DO NOT MATCH" in done.stderr


def test_what_is_missing_or_was_added_is_named(kit: Path) -> None:
    seal(kit)
    added = wheel(kit / "wheels", "added")
    assert "wheels/added-1.0-py3-none-any.whl was not there" in seal(kit, "--check", status=2)
    added.unlink()
    (kit / "weights" / "model.safetensors").unlink()
    assert "weights/model.safetensors is missing" in seal(kit, "--check", status=2)


def test_what_cannot_be_sealed_is_named(kit: Path, tmp_path: Path) -> None:
    wheel(kit / "wheels", "another", "2.0")
    assert "another lies in" in seal(kit, status=2)
    (kit / "wheels" / "another-2.0-py3-none-any.whl").unlink()
    (kit / "wheels" / "source.tar.gz").write_bytes(b"")
    assert "source.tar.gz is not a wheel" in seal(kit, status=2)
    (kit / "wheels" / "source.tar.gz").unlink()
    (kit / "weights" / "link").symlink_to(tmp_path)
    assert "is not a plain file" in seal(kit, status=2)
    (tmp_path / "empty").mkdir()
    assert "there are no wheels" in seal(tmp_path / "empty", status=2)
    assert "SHA256SUMS cannot be read" in seal(tmp_path / "empty", "--check", status=2)
