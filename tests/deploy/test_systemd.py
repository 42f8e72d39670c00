"""The systemd units are ones that systemd takes, hardened, and do what the documents say of them."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedapt_secure.process.exit_status import RESTART_IS_USELESS, ExitStatus

ROOT = Path(__file__).parents[2]
UNITS = [ROOT / room / "systemd" / f"fedapt-{room}.service" for room in ("server", "client")]
DROP_INS = sorted(ROOT.glob("*/systemd/*.conf"))
PROGRAM = "/opt/fedapt-secure/bin/fedapt-secure"
WORST_EXPOSURE = 20
"""In tenths, as ``systemd-analyze security`` counts: 0 is best, 100 no protection at all."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def settings(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(path)
    return {name: dict(parser[name]) for name in parser.sections()}


def installed(unit: Path, folder: Path, *drop_ins: Path) -> Path:
    """Copy a unit to where its program exists, with drop-ins beside it."""
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace(PROGRAM, sys.executable))
    for drop_in in drop_ins:
        target = folder / f"{unit.name}.d" / drop_in.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(drop_in.read_text())
    return copy


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_unit_and_its_drop_ins(unit: Path, tmp_path: Path) -> None:
    drop_ins = [path for path in DROP_INS if path.parent == unit.parent]
    assert drop_ins
    done = analyze("verify", "--man=no", installed(unit, tmp_path, *drop_ins))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_a_mistake_in_a_drop_in_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.conf"
    wrong.write_text("[Service]\nPrivateDevises=no\n")
    done = analyze("verify", "--man=no", installed(UNITS[0], tmp_path, wrong))
    assert "PrivateDevises" in done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_little_is_exposed(unit: Path, tmp_path: Path) -> None:
    security = ("security", "--offline=yes", "--no-pager", f"--threshold={WORST_EXPOSURE}")
    done = analyze(*security, installed(unit, tmp_path))
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_it_restarts_after_a_crash_and_not_after_a_mistake(unit: Path) -> None:
    service = settings(unit)["Service"]
    assert service["Restart"] == "on-failure"
    useless = [str(status.value) for status in RESTART_IS_USELESS]
    assert service["RestartPreventExitStatus"].split() == useless
    assert str(ExitStatus.UNAVAILABLE.value) not in useless, "a full disk is emptied one day"
    assert settings(unit)["Unit"]["StartLimitIntervalSec"] == "0", "and until then nothing gives up"
    assert service["User"] == service["Group"] == service["StateDirectory"] == unit.stem
    assert service["ExecStart"].startswith(f"{PROGRAM} {unit.stem.removeprefix('fedapt-')} run --dir ")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_no_secret_stands_in_it(unit: Path) -> None:
    for path in (unit, unit.parent / "passphrase.conf"):
        text = path.read_text()
        assert "FEDAPT_PASSPHRASE=" not in text
        assert "--passphrase " not in text
    credential = settings(unit.parent / "passphrase.conf")["Service"]["LoadCredential"]
    assert credential == f"passphrase:/etc/fedapt-secure/{unit.parents[1].name}.passphrase"
