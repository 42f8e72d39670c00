"""The parent's end of a worker process: a request, an answer, and what goes wrong is an ordinary error.

A worker that died, hung or refused something is killed and forgotten; the next request starts a fresh one,
opens the same context in it and knows nothing of the last. So a worker holds no state that would be missed.
"""

import contextlib
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from typing import Final, NoReturn

from fedapt_crypto.errors import MalformedMessage, RunFailed
from fedapt_crypto.secagg.ckks.frames import LENGTH, MAX_FRAME_BYTES, Operation, Status, join, split

TIMEOUT_S: Final = 60.0
"""A request takes milliseconds; this is for a hung process on a busy machine."""

_CHUNK_BYTES: Final = 1 << 16
_COMMAND: Final = (sys.executable, "-P", "-m", "fedapt_crypto.secagg.ckks.worker")
# One thread for each library: their pools would count against the worker's address space.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class WorkerFailed(Exception):
    """Why there is no answer."""


class Worker:
    """A worker process around one context, started when it is first needed.

    Args:
        context: Serialized context to work with; ``None`` for a worker that only makes new ones.
        timeout_s: How long one request may take.
    """

    def __init__(self, context: bytes | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._context = context
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[[subprocess.Popen[bytes]], Worker] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        state = "idle" if self._process is None else f"process {self._process.pid}"
        return f"Worker({state}, context hidden)"

    @property
    def process_id(self) -> int | None:
        """The running process, if there is one."""
        return None if self._process is None else self._process.pid

    def call(self, operation: Operation, *parts: bytes, blame: str | None = None) -> tuple[bytes, ...]:
        """Have one operation done.

        Args:
            operation: What to do.
            parts: Its arguments.
            blame: The peer whose bytes these are; ``None`` where they are our own.

        Raises:
            MalformedMessage: If there is no result and ``blame`` names whose bytes are to blame.
            RunFailed: If there is no result and the bytes are our own.
        """
        with self._lock:
            try:
                if self._process is None:
                    self._start()
                return self._exchange(operation, parts)
            except WorkerFailed as failure:
                self._stop()
                _raise(str(failure), blame)

    def close(self) -> None:
        """End the process and forget the context; a later call starts a worker without one."""
        with self._lock:
            self._stop()
            self._context = None

    def _start(self) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | _ONE_THREAD,
        )
        self._process = process
        self._finalizer = weakref.finalize(self, _kill, process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        if self._context is not None:
            self._exchange(Operation.OPEN, (self._context,))

    def _exchange(self, operation: Operation, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
        request = bytes([operation]) + join(*parts)
        if len(request) > MAX_FRAME_BYTES:
            raise WorkerFailed("it is too long")
        answer = self._converse(LENGTH.pack(len(request)) + request)
        if answer[:1] != bytes([Status.DONE]):
            raise WorkerFailed("TenSEAL refused it")
        try:
            return split(answer[1:])
        except MalformedMessage:
            raise WorkerFailed("the worker gave no proper answer") from None

    def _converse(self, request: bytes) -> bytes:
        """Send a frame and return the body of the frame that answers it."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None  # noqa: PT018
        sender, receiver = process.stdin.fileno(), process.stdout.fileno()
        unsent, answer = memoryview(request), bytearray()
        deadline = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(sender, selectors.EVENT_WRITE)
            selector.register(receiver, selectors.EVENT_READ)
            while True:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise WorkerFailed("the worker did not answer in time")
                try:
                    for key, _ in ready:
                        if key.fd == sender:
                            unsent = unsent[os.write(sender, unsent[:_CHUNK_BYTES]) :]
                            if not unsent:
                                selector.unregister(sender)
                        else:
                            chunk = os.read(receiver, _CHUNK_BYTES)
                            if not chunk:
                                raise WorkerFailed("the worker died of it")
                            answer += chunk
                except BrokenPipeError:
                    raise WorkerFailed("the worker died of it") from None
                if len(answer) >= LENGTH.size:
                    (size,) = LENGTH.unpack_from(answer)
                    if size > MAX_FRAME_BYTES or len(answer) > LENGTH.size + size:
                        raise WorkerFailed("the worker gave no proper answer")
                    if len(answer) == LENGTH.size + size and not unsent:
                        return bytes(answer[LENGTH.size :])

    def _stop(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None


def _raise(reason: str, blame: str | None) -> NoReturn:
    if blame is None:
        raise RunFailed(f"TenSEAL failed on our own data: {reason}")
    raise MalformedMessage(f"bytes that TenSEAL cannot use: {reason}", peer=blame)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.kill()
    process.wait()
