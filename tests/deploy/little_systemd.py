"""Stands in for ``systemctl`` where there is no systemd to talk to: runs the installed units as their users.

``systemctl COMMAND [UNIT]`` with daemon-reload, enable, start, stop, restart. It takes from a unit what a
service's life depends on: user, command, environment, credentials, folder. What it does not do is the
sandbox; `test_systemd` asks the real systemd about that. Nothing but Python's own library: it runs on the
machine that it stands for. Its state lies in the folder that ``LITTLE_SYSTEMD`` names.
"""

import configparser
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["LITTLE_SYSTEMD"])
INSTALLED, LOADED = Path("/etc/systemd/system"), STATE / "loaded"
CREDENTIALS = STATE / "credentials"
FIRST_LINE_S, STOP_S = 90.0, 60.0


class Unit:
    """One service, as it was when units were read last."""

    def __init__(self, name: str) -> None:
        self.name = name.removesuffix(".service")
        files = [LOADED / f"{self.name}.service", *sorted((LOADED / f"{self.name}.service.d").glob("*.conf"))]
        if not files[0].exists():
            sys.exit(f"Failed to start {self.name}.service: Unit {self.name}.service not found.")
        self.lines: dict[str, list[str]] = {}
        for file in files:
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            parser.optionxform = str  # type: ignore[assignment]
            parser.read(file)
            for key, value in parser["Service"].items():
                self.lines.setdefault(key, []).append(value)
        self.user = pwd.getpwnam(self.lines["User"][-1])
        self.credentials = CREDENTIALS / self.name
        self.journal, self.pid_file = STATE / f"{self.name}.journal", STATE / f"{self.name}.pid"

    def start(self) -> None:
        if self.running() is not None:
            return
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        for line in self.lines.get("Environment", ()):
            for word in shlex.split(line.replace("%d", str(self.credentials))):
                key, _, value = word.partition("=")
                environment[key] = value
        shutil.rmtree(self.credentials, ignore_errors=True)
        for line in self.lines.get("LoadCredential", ()):
            name, _, source = line.partition(":")
            self.credentials.mkdir(parents=True)
            (self.credentials / name).write_bytes(Path(source).read_bytes())  # as root does
            (self.credentials / name).chmod(0o400)
            for path in (self.credentials / name, self.credentials):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        folder = Path("/var/lib") / self.lines["StateDirectory"][-1]
        if folder.stat().st_uid != self.user.pw_uid or folder.stat().st_mode & 0o777 != 0o700:
            sys.exit(f"{folder} is not {self.user.pw_name}'s alone")
        before = self.journal.read_text() if self.journal.exists() else ""
        with self.journal.open("a") as journal:
            process = subprocess.Popen(
                shlex.split(self.lines["ExecStart"][-1]),
                cwd=self.lines["WorkingDirectory"][-1], env=environment,
                stdin=subprocess.DEVNULL, stdout=journal, stderr=journal,
                user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[],
                umask=int(self.lines["UMask"][-1], 8), start_new_session=True,
            )  # fmt: skip
        self.pid_file.write_text(str(process.pid))
        deadline = time.monotonic() + FIRST_LINE_S
        while self.journal.read_text() == before:  # it has come up when it says something
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"Job for {self.name}.service failed: {process.poll()}")
            time.sleep(0.05)
        if process.poll() is not None:
            sys.exit(f"Job for {self.name}.service failed: {self.journal.read_text()[len(before) :]}")

    def running(self) -> int | None:
        pid = int(self.pid_file.read_text()) if self.pid_file.exists() else None
        return pid if pid is not None and Path(f"/proc/{pid}").exists() and not _is_dead(pid) else None

    def stop(self) -> None:
        pid = self.running()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while self.running() is not None:
            if time.monotonic() > deadline:
                sys.exit(f"{self.name}.service does not stop")
            time.sleep(0.05)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def main() -> None:
    command, *names = [word for word in sys.argv[1:] if word != "--now"]
    if command == "daemon-reload":
        shutil.rmtree(LOADED, ignore_errors=True)
        shutil.copytree(
            INSTALLED, LOADED, ignore=shutil.ignore_patterns("*.wants"), ignore_dangling_symlinks=True
        )
        return
    [name] = names
    if command == "enable" and "--now" not in sys.argv:
        return  # what comes at the next boot, systemd's own units among them
    unit = Unit(name)
    if command in ("stop", "restart"):
        unit.stop()
    if command in ("enable", "start", "restart"):
        unit.start()


if __name__ == "__main__":
    main()
