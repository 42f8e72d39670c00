"""Stands in for ``systemctl`` where there is no systemd to talk to: runs the installed units as their users.

``systemctl COMMAND [UNIT]`` with daemon-reload, enable, start, stop, restart. It takes from a unit what a
service's life depends on: user, command, environment, credentials, folder, and after which exit statuses it
is started again. What it does not do is the sandbox; `test_systemd` asks the real systemd about that. Nothing
but Python's own library: it runs on the machine that it stands for. Its state lies in the folder that
``LITTLE_SYSTEMD`` names: of each unit the journal, the process that watches over it, the service's own
process, and the exit statuses with which that has ended so far.
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
LAST_STATUSES = ("RestartPreventExitStatus", "SuccessExitStatus")
"""What a unit names the statuses by after which it is not started again on failure."""


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
        self.watch_file, self.statuses = STATE / f"{self.name}.watch", STATE / f"{self.name}.statuses"

    def start(self) -> None:
        """Have it watched over by a process of its own, and wait until it has come up."""
        if _alive(self.watch_file):
            return
        folder = Path("/var/lib") / self.lines["StateDirectory"][-1]
        if folder.stat().st_uid != self.user.pw_uid or folder.stat().st_mode & 0o777 != 0o700:
            sys.exit(f"{folder} is not {self.user.pw_name}'s alone")
        before = self.journal.read_text() if self.journal.exists() else ""
        with self.journal.open("a") as journal:
            watching = subprocess.Popen(
                [sys.executable, "-I", __file__, "watch", f"{self.name}.service"], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=journal, stderr=journal,
            )  # fmt: skip
        self.watch_file.write_text(str(watching.pid))
        deadline = time.monotonic() + FIRST_LINE_S
        while self.journal.read_text() == before:  # it has come up when it says something
            if watching.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"Job for {self.name}.service failed: {watching.poll()}")
            time.sleep(0.05)
        if watching.poll() is not None:
            sys.exit(f"Job for {self.name}.service failed: {self.journal.read_text()[len(before) :]}")

    def watch(self) -> None:
        """Run it, and run it again for as long as its exit status asks for that, until told to stop."""
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        last = {int(code) for key in LAST_STATUSES for code in " ".join(self.lines.get(key, ())).split()}
        while not stopped:
            process = self._run()
            self.pid_file.write_text(str(process.pid))
            while process.poll() is None:
                if stopped:
                    process.terminate()
                time.sleep(0.05)
            with self.statuses.open("a") as statuses:
                statuses.write(f"{process.returncode}\n")
            if process.returncode in last | {0} or self.lines["Restart"][-1] != "on-failure":
                return
            again = time.monotonic() + float(self.lines["RestartSec"][-1].removesuffix("s"))
            while time.monotonic() < again and not stopped:
                time.sleep(0.05)

    def _run(self) -> "subprocess.Popen[bytes]":
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
        with self.journal.open("a") as journal:
            return subprocess.Popen(
                shlex.split(self.lines["ExecStart"][-1]),
                cwd=self.lines["WorkingDirectory"][-1], env=environment,
                stdin=subprocess.DEVNULL, stdout=journal, stderr=journal,
                user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[],
                umask=int(self.lines["UMask"][-1], 8), start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        pid = _alive(self.watch_file)
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while _alive(self.watch_file):
            if time.monotonic() > deadline:
                sys.exit(f"{self.name}.service does not stop")
            time.sleep(0.05)


def _alive(pid_file: Path) -> int | None:
    pid = int(pid_file.read_text()) if pid_file.exists() else None
    return pid if pid is not None and not _is_dead(pid) else None


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
    if command == "watch":
        unit.watch()
    if command in ("stop", "restart"):
        unit.stop()
    if command in ("enable", "start", "restart"):
        unit.start()


if __name__ == "__main__":
    main()
