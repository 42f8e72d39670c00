"""Commands in processes of their own that do not load everything again: forked from one that has loaded it.

Loading torch, Opacus and open_clip takes five seconds of a core, and the tests run hundreds of commands.
`WarmServer` is one process a test run. It loads nothing until the first command comes, then all that commands
load; each command is a fork of it, with the arguments, folder, environment, umask and standard streams of
whoever asked. `warm_shim.py`, which asks, is started in the command's place: it passes on signals, and ends
as the command ends. Where a test kills with SIGKILL, measures memory, or looks at what is loaded, it starts
the command cold.

Workers of CKKS have a second server, which has loaded TenSEAL and nothing else: a session starts one for each
institution, and most of what it costs is their start.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SOCKET = "FEDAPT_TESTS_WARM"
"""Where the server of this test run listens; set by ``tests/conftest.py``."""
CKKS_SOCKET = "FEDAPT_TESTS_WARM_CKKS"
"""Where that of CKKS workers does."""
WORKER = "ckks worker"
SHIM = Path(__file__).with_name("warm_shim.py")
STREAMS = 3
LOADED = (
    "fedapt_client.doctor",
    "fedapt_client.runner",
    "fedapt_client.training.bundles",
    "fedapt_secure.audit.judgement",
    "fedapt_secure.audit.report.text",
    "fedapt_secure.cli.app",
    "fedapt_secure.cli.work.ledger",
    "fedapt_secure.inference.predictor",
    "fedapt_secure.simulate.command",
    "fedapt_server.membership.founding",
    "fedapt_server.running",
)
LOADED_BY_WORKERS = ("fedapt_crypto.secagg.ckks.worker", "tenseal")


def program(kind: str = "command") -> list[str]:
    """Return the beginning of a command line: of ``fedapt-secure``, or of a script where ``kind`` says so."""
    if SOCKET not in os.environ:
        cold = ["-c", "import sys; sys.argv[0] = 'fedapt-secure'; from fedapt_secure.cli import main; main()"]
        return [sys.executable, *(cold if kind == "command" else [])]
    return [sys.executable, "-I", "-S", str(SHIM), os.environ[SOCKET], kind]


def worker_program() -> list[str]:
    """Return the command line of a worker of CKKS."""
    return [sys.executable, "-I", "-S", str(SHIM), os.environ[CKKS_SOCKET], WORKER]


class WarmServer:
    """Starts a server beside the tests, and ends it with them.

    Args:
        variable: Names where it listens, and which of the two it is.
    """

    def __init__(self, variable: str = SOCKET) -> None:
        self._variable = variable
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        path = f"{self._folder.name}/socket"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)  # before anybody asks
        listening.listen(64)
        command = [sys.executable, "-m", "tests.support.warm", str(listening.fileno()), variable]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env=environment,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        listening.close()
        os.environ[variable] = path

    def close(self) -> None:
        """End it, and every command that is left."""
        os.environ.pop(self._variable, None)
        self._process.communicate()
        self._folder.cleanup()


@dataclass
class _Asked:
    connection: socket.socket
    pid: int
    watched: int


def serve(listening: socket.socket, loaded: tuple[str, ...]) -> None:
    """Fork a command for each connection, until standard input ends.

    Args:
        listening: Where connections come in.
        loaded: What to load first.
    """
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    running: dict[int, _Asked] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                for asked in running.values():
                    os.kill(asked.pid, signal.SIGKILL)
                return
            if key.fileobj is listening:
                connection, _ = listening.accept()
                _load(loaded)
                pid = _fork(connection, listening, running)
                asked = _Asked(connection, pid, os.pidfd_open(pid))
                running[pid] = asked
                waiting.register(connection, selectors.EVENT_READ, asked)
                waiting.register(asked.watched, selectors.EVENT_READ, asked)
                continue
            asked = key.data
            if asked.pid not in running:
                continue
            if key.fileobj == asked.watched:
                _, status = os.waitpid(asked.pid, 0)
                _tell(asked.connection, os.waitstatus_to_exitcode(status))
                waiting.unregister(asked.watched)
                waiting.unregister(asked.connection)
                os.close(asked.watched)
                asked.connection.close()
                del running[asked.pid]
            else:
                for number in asked.connection.recv(64) or bytes([signal.SIGKILL]):
                    os.kill(asked.pid, number)


def _load(loaded: tuple[str, ...]) -> None:
    for name in loaded:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _tell(connection: socket.socket, code: int) -> None:
    try:
        connection.sendall(struct.pack("!i", code))
    except OSError:
        pass  # whoever asked is gone


def _fork(connection: socket.socket, listening: socket.socket, running: dict[int, _Asked]) -> int:
    head, streams, _, _ = socket.recv_fds(connection, 8, STREAMS)
    size = struct.unpack("!q", head)[0]
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            break
        data += part
    pid = os.fork()
    if pid == 0:
        try:
            for other in running.values():
                other.connection.close()
                os.close(other.watched)
            listening.close()
            connection.close()
            code = _become(json.loads(data), streams)
        except BaseException:  # whatever it is, no child may go on as a server
            sys.excepthook(*sys.exc_info())
            code = 1
        _leave(code)
    for stream in streams:
        os.close(stream)
    return pid


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, but for taking down what the server has loaded."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become(asked: dict, streams: list[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.umask(asked["umask"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # What an interpreter does with the variable when it starts, and this one has started long ago.
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(
            number,
            mode,
            encoding=encoding or None,
            errors="backslashreplace" if number == 2 else errors or None,
            closefd=False,
        )
        for number, mode in enumerate(("r", "w", "w"))
    )
    kind, arguments = asked["kind"], asked["arguments"]
    try:
        if kind == "script":
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
        elif kind == WORKER:
            from fedapt_crypto.secagg.ckks import worker  # noqa: PLC0415 - loaded already

            worker.main()
        else:
            sys.argv = ["fedapt-secure", *arguments]
            from fedapt_secure.cli import main  # noqa: PLC0415 - loaded already

            main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), LOADED_BY_WORKERS if sys.argv[2] == CKKS_SOCKET else LOADED)
    _leave(0)
