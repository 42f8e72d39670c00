"""The worker process: what kills it is an ordinary error for its parent, and it dies with its parent."""

import os
import signal
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import MalformedMessage, RunFailed
from fedapt_crypto.secagg.ckks import process
from fedapt_crypto.secagg.ckks.frames import LENGTH, MAX_FRAME_BYTES, Operation, join, split
from fedapt_crypto.secagg.ckks.parameters import SLOTS
from fedapt_crypto.secagg.ckks.process import Worker
from tests.crypto.secagg.ckks.groups import contexts
from tests.crypto.secagg.ckks.test_structure import CRASHES_THE_ADDER

ONES = struct.pack(f"<{SLOTS}d", *[1.0] * SLOTS)
CRASH = f"""
import tenseal as ts
context = ts.context(
    ts.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[60, 49], encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC
)
context.global_scale = 2.0**49
total = ts.ckks_vector(context, [1.0] * 2048)
total.add_(ts.ckks_vector_from(context, bytes.fromhex("{CRASHES_THE_ADDER.hex()}")))
"""


@pytest.fixture
def worker():
    made = Worker(contexts()[0])
    yield made
    made.close()


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_frames_round_trip(parts: list[bytes]) -> None:
    joined = join(*parts)
    assert list(split(joined)) == parts
    for cut in range(1, min(len(joined), 4)):
        with pytest.raises(MalformedMessage):
            split(joined[:-cut] if parts[-1] or cut < 4 else joined[:-1])


def test_encrypt_add_decrypt(worker: Worker) -> None:
    (piece,) = worker.call(Operation.ENCRYPT, ONES)
    (first,) = worker.call(Operation.ADD, b"", piece)
    (total,) = worker.call(Operation.ADD, first, piece)
    (slots,) = worker.call(Operation.DECRYPT, total)
    assert struct.unpack(f"<{SLOTS}d", slots) == pytest.approx([2.0] * SLOTS, abs=1e-9)


def test_tenseal_alone_does_crash_on_it() -> None:
    """Why there is a structure check and a worker at all; if this fails, TenSEAL has become safer."""
    done = subprocess.run([sys.executable, "-c", CRASH], check=False, capture_output=True)
    assert done.returncode == -signal.SIGSEGV


def test_the_worker_refuses_what_crashes_tenseal(worker: Worker) -> None:
    (piece,) = worker.call(Operation.ENCRYPT, ONES)
    with pytest.raises(MalformedMessage, match="clinic-9: .*refused"):
        worker.call(Operation.ADD, piece, CRASHES_THE_ADDER, blame="clinic-9")
    assert worker.process_id is None
    assert worker.call(Operation.ADD, piece, piece, blame="clinic-1")


@pytest.mark.parametrize("blame", ["clinic-2", None])
def test_a_dead_worker_is_an_error_and_the_next_call_works(worker: Worker, blame: str | None) -> None:
    worker.call(Operation.ENCRYPT, ONES)
    os.kill(worker.process_id, signal.SIGKILL)
    os.waitpid(worker.process_id, 0)
    with pytest.raises(MalformedMessage if blame else RunFailed, match="died") as caught:
        worker.call(Operation.ENCRYPT, ONES, blame=blame)
    assert getattr(caught.value, "peer", None) == blame
    assert worker.call(Operation.ENCRYPT, ONES)


def test_a_hung_worker_is_given_up(worker: Worker) -> None:
    """A stopped process never answers, however long one waits."""
    worker.call(Operation.ENCRYPT, ONES)
    stopped = worker.process_id
    os.kill(stopped, signal.SIGSTOP)
    worker._timeout_s = 0.01
    with pytest.raises(MalformedMessage, match="clinic-2: .*in time"):
        worker.call(Operation.ENCRYPT, ONES, blame="clinic-2")
    worker._timeout_s = process.TIMEOUT_S
    assert worker.call(Operation.ENCRYPT, ONES)
    assert worker.process_id != stopped


@pytest.mark.parametrize(
    "answer",
    [LENGTH.pack(MAX_FRAME_BYTES + 1), LENGTH.pack(1) + b"\x00\x00", LENGTH.pack(3) + b"\x00\x05\x00", b""],
)
def test_a_worker_that_answers_rubbish(answer: bytes, monkeypatch) -> None:
    code = f"import sys; sys.stdin.buffer.read(5); sys.stdout.buffer.write({answer!r}); sys.stdout.flush()"
    monkeypatch.setattr(process, "_COMMAND", (sys.executable, "-c", code))
    with pytest.raises(MalformedMessage, match="clinic-2: .*(proper answer|died)"):
        Worker().call(Operation.NEW, blame="clinic-2")


def test_it_ends_when_its_parent_closes_the_pipe() -> None:
    started = subprocess.Popen(process._COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout.read(0) == b""
    started.stdin.close()
    assert started.wait() == 0
    started.stdout.close()


def test_it_ends_on_a_frame_that_is_too_long() -> None:
    frame = LENGTH.pack(MAX_FRAME_BYTES + 1)
    done = subprocess.run(process._COMMAND, input=frame, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_request_that_is_too_long_is_not_sent(worker: Worker) -> None:
    with pytest.raises(RunFailed, match="too long"):
        worker.call(Operation.ADD, bytes(MAX_FRAME_BYTES))


@pytest.mark.parametrize(
    ("operation", "parts"),
    [
        (Operation.ENCRYPT, (ONES[:-8],)),
        (Operation.ENCRYPT, (ONES, ONES)),
        (Operation.DECRYPT, (b"",)),
        (Operation.OPEN, (b"",)),
        (Operation.OPEN, (bytes(80),)),
    ],
)
def test_what_it_refuses(worker: Worker, operation: Operation, parts: tuple[bytes, ...]) -> None:
    with pytest.raises(RunFailed, match="refused"):
        worker.call(operation, *parts)


def test_the_public_context_cannot_decrypt_or_encrypt(worker: Worker) -> None:
    (piece,) = worker.call(Operation.ENCRYPT, ONES)
    public = Worker(contexts()[1])
    for operation, part in ((Operation.DECRYPT, piece), (Operation.ENCRYPT, ONES)):
        with pytest.raises(RunFailed, match="refused"):
            public.call(operation, part)
    public.close()


def test_a_closed_worker_is_gone(worker: Worker) -> None:
    worker.call(Operation.ENCRYPT, ONES)
    number = worker.process_id
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with pytest.raises(RunFailed):
        worker.call(Operation.ENCRYPT, ONES)
