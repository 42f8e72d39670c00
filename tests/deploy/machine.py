"""A machine of its own to follow a runbook on, as root, with real users and a real sudo.

It is this machine seen otherwise, in namespaces that end with their shell: its own /etc, /var/lib, /opt, /srv
and /root, and its own network, so that a page's commands are typed as they stand there and nothing of them
remains. The program is installed from its wheel with pip; what it depends on are hollow wheels, for the
packages lie here already. Where sudo is missing, `runuser` with an empty environment stands in for it.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.walkthrough import Shell
from tests.deploy.wheels import ROOT, build_wheel, hollow_wheel

FRESH = ("/root", "/opt", "/srv", "/var/lib")
HERE = Path(__file__).parent
SCRIPTS = ("little_systemd.py", "little_network.py")
SUDO = """#!/bin/bash
# As sudo does: another user, and nothing of the caller's environment.
[ "$1" = -u ] || exit 2
user=$2; shift 2
home=$(getent passwd "$user" | cut -d: -f6)
exec runuser -u "$user" -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$home" "$@"
"""


def why_not() -> str | None:
    """Return why there can be no such machine here; ``None`` where there can."""
    if os.geteuid() != 0:
        return "a second user needs root"
    missing = [name for name in ("unshare", "runuser", "useradd", "mount") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not on this machine"
    script = "mount -t tmpfs none /srv"
    tried = subprocess.run([*_unshared(), "sh", "-c", script], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


@dataclass(frozen=True)
class Machine:
    """What it is made of.

    Attributes:
        state: A folder of this machine for what the other one needs.
        sudo: Whether it has the real sudo, or a stand-in.
        network: The network namespace that it is in, by its name; a new one, with nobody else in it, where
            there is none.
        coordinator: The address that ``coordinator.example.org`` has for it.
    """

    state: Path
    sudo: bool = shutil.which("sudo") is not None
    network: str | None = None
    coordinator: str = "127.0.0.1"

    def prepare(self, like: "Machine | None" = None) -> None:
        """Copy what is to be changed there and not here, and build the wheels, or take those of another."""
        for name in ("bin", "systemd"):
            (self.state / name).mkdir(parents=True)
        if like is None:
            self._build()
        else:
            for name in ("wheels", "new"):
                shutil.copytree(like.state / name, self.state / name)
        if not self.sudo:
            self._program("sudo", SUDO)
        for script in SCRIPTS:
            shutil.copy(HERE / script, self.state / script)
        systemctl = f'#!/bin/sh\nexec {shlex.quote(_python())} -I {self.state / SCRIPTS[0]} "$@"\n'
        self._program("systemctl", systemctl)
        shutil.copytree("/etc", self.state / "etc", symlinks=True, copy_function=_copied)

    def _build(self) -> None:
        for name in ("wheels", "new"):
            (self.state / name).mkdir(parents=True)
        wheel = build_wheel(self.state / "built")
        shutil.copy(wheel, self.state / "new")
        for name in ("constraints.txt", "requirements-audit.txt", "server/requirements.txt"):
            (self.state / "new" / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.state / "new" / name)
        for line in (ROOT / "constraints.txt").read_text().splitlines():
            name, pinned, version = line.partition("==")
            if pinned:
                # Any of them may say where the real ones lie.
                paths = [Path("/opt/packages")] if name == "numpy" else []
                hollow_wheel(self.state / "wheels", name, version, paths)

    def _program(self, name: str, text: str) -> None:
        (self.state / "bin" / name).write_text(text)
        (self.state / "bin" / name).chmod(0o755)

    def shell(self) -> Shell:
        """Start it: a shell as root in /root, with the program installed in /opt/fedapt-secure."""
        environment = {
            "PATH": f"{self.state / 'bin'}:{Path(_python()).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "LITTLE_SYSTEMD": str(self.state / "systemd"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.state / "wheels"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        entered = (*_unshared(self.network), "bash", "--norc")
        shell = Shell(self.state, {}, command=entered, environment=environment)
        for command in (*self._mounts(), *self._installs()):
            status, printed = shell.run(command)
            if status != 0:
                shell.close()
                raise AssertionError(f"{command}: {printed}")
        return shell

    def statuses(self, unit: str) -> list[int]:
        """Return with which exit statuses a service has ended so far, in order."""
        path = self.state / "systemd" / f"{unit}.statuses"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def journal(self, unit: str) -> str:
        """Return what a service has said so far."""
        path = self.state / "systemd" / f"{unit}.journal"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """End the services that are left, at once: those who watch over them first."""
        for kind in ("watch", "pid"):
            for path in (self.state / "systemd").glob(f"*.{kind}"):
                process = Path("/proc") / path.read_text()
                with suppress(OSError):  # it has ended, and its number may be somebody else's by now
                    if b"fedapt" in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)

    def _mounts(self) -> tuple[str, ...]:
        packages, base = sysconfig.get_path("purelib"), Path(sys.base_prefix)
        kept = self.state / "python"
        hidden = any(base.is_relative_to(path) for path in FRESH)
        return (
            # A path that leads through a folder of somebody else's is no path for a second user.
            f"chmod 755 {self.state}; mkdir {kept} && mount --bind {base} {kept}",
            f"mkdir {self.state}/packages && mount --bind {packages} {self.state}/packages",
            f"mount --bind {self.state}/etc /etc",
            *(f"mount -t tmpfs -o mode=711 none {path}" for path in FRESH),
            *((f"mkdir -p {base} && mount --bind {kept} {base}",) if hidden else ()),
            f"mkdir /opt/packages && mount --bind {self.state}/packages /opt/packages",
            f"chmod 755 /opt /srv /var/lib; chmod go+x {' '.join(str(path) for path in base.parents)}",
            f"{shlex.quote(_python())} -I {self.state / SCRIPTS[1]}",
            f"echo '{self.coordinator} coordinator.example.org' >> /etc/hosts",
            f"cp -r {self.state}/new /root/fedapt-secure; cd /root",
        )

    def _installs(self) -> tuple[str, ...]:
        return (
            "python3 -m venv /opt/fedapt-secure",
            "/opt/fedapt-secure/bin/pip install --quiet --constraint ~/fedapt-secure/constraints.txt"
            " ~/fedapt-secure/fedapt_secure-*.whl",
            "/opt/fedapt-secure/bin/fedapt-secure --version",
        )


def _unshared(network: str | None = None) -> list[str]:
    own = ["unshare", "--mount", "--propagation", "private"]
    return [*own, "--net"] if network is None else ["ip", "netns", "exec", network, *own]


def _python() -> str:
    """The interpreter that environments are made from."""
    return str(Path(sys.base_prefix) / "bin" / "python3")


def _copied(source: str, target: str) -> None:
    shutil.copy2(source, target)
    about = os.stat(source)  # noqa: PTH116
    os.chown(target, about.st_uid, about.st_gid)
