"""How much memory and time the worst inputs take of every decoder that faces bytes of others.

    python -m tests.fuzz.decoding_bombs                  # at each decoder's largest size by default
    python -m tests.fuzz.decoding_bombs --largest-mib 1  # smaller ones

Each input is decoded in a process of its own, whose peak of resident memory the kernel tells (``VmHWM``, set
back before the input): tracemalloc leaves out what the libraries beneath take. An input fails that takes more
than `MEMORY_FACTOR` times its size and `SPARE_BYTES`, or longer than `LONGEST_SECONDS`.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from fedapt_crypto.certificates import facts, read_revocation_list
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.pki import CertificateAuthority, Revocation, TlsKey
from fedapt_secure.audit.evidence.files import MAX_ROSTER_BYTES
from fedapt_secure.config.party_folder import roster_from_json
from fedapt_secure.config.ranges import USUAL_MESSAGE_BYTES
from fedapt_secure.log.line import MAX_LINE_BYTES
from fedapt_secure.protocol.joining.enrolment import MAX_ANSWER_FRAME_BYTES, RosterFile, from_file
from fedapt_secure.protocol.joining.join_string import JoinString
from tests.fuzz import bombs
from tests.fuzz.decoders import DECODERS, Decoder, message_classes
from tests.fuzz.fuzz_decoders import read_seeds

MEMORY_FACTOR = 4
SPARE_BYTES = 12 << 20
LONGEST_SECONDS = 2.0
MIB = 1 << 20
Bombs = Callable[[int], Iterator[tuple[str, bytes]]]


@dataclass(frozen=True)
class Target:
    """A decoder, the largest input that it looks at, and what is thrown at it."""

    decode: Decoder
    largest: int
    bombs: Bombs


@dataclass(frozen=True)
class Cost:
    """What one input took beyond itself: bytes at the peak, seconds of a core; ``outcome`` is for people."""

    memory_bytes: int
    seconds: float
    outcome: str

    def holds(self, size: int) -> bool:
        """Whether it is within what an input of that size may take."""
        limit = MEMORY_FACTOR * size + SPARE_BYTES
        return self.memory_bytes <= limit and self.seconds <= LONGEST_SECONDS


def measure(decode: Decoder, data: bytes) -> Cost:
    """Decode in a child process and return what it took; an error that is not ours is raised here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = "!the decoder ended its process"
        cost = (0, 0.0)
        try:
            Path("/proc/self/clear_refs").write_text("5")
            before, began = _resident("VmRSS:"), time.process_time()
            told = _outcome(decode, data)
            cost = (_resident("VmHWM:") - before, time.process_time() - began)
        finally:
            os.write(writing, json.dumps([*cost, told]).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    memory, seconds, told = json.loads(answer)
    if told.startswith("!"):
        raise AssertionError(f"not one of our errors: {told}")
    return Cost(memory, seconds, told)


def _outcome(decode: Decoder, data: bytes) -> str:
    try:
        decode(data)
    except FedaptError as error:
        return str(error)[:100]
    except BaseException as error:
        return f"!{type(error).__name__}: {str(error)[:200]}"
    return "accepted"


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(field)[2].split()[0]) << 10


def _messages(name: str) -> Bombs:
    def made(size: int) -> Iterator[tuple[str, bytes]]:
        yield from bombs.msgpack_bombs(size)
        for number, seed in enumerate(read_seeds(name)):
            for what, data in bombs.structured_bombs(seed, size):
                yield f"{number}: {what}", data

    return made


def _lines(size: int) -> Iterator[tuple[str, bytes]]:
    for name, body in bombs.json_bombs(size - 400):
        yield name, bombs.as_log_line(body)


def _bundles(size: int) -> Iterator[tuple[str, bytes]]:
    for name, header in bombs.json_bombs(size // 2):
        yield f"header: {name}", bombs.as_bundle(header)
        yield f"metadata: {name}", bombs.as_bundle(b'{"__metadata__":' + header + b"}")
        yield f"description: {name}", bombs.as_description(header)
    one = '"%06x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    yield "tensors", bombs.as_bundle(("{" + ",".join(one % at for at in range(size // 60)) + "}").encode())


def _tables(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield long repetitions, for what is cut into pieces of one length or by lengths that are told."""
    for name, item in (("zeros", b"\x00"), ("ones", b"\x01"), ("all bits", b"\xff"), ("counts", b"\x00\x01")):
        yield name, item * (size // len(item))
    record = b"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00" + bytes(64)
    yield "rounds", record * (size // len(record))
    yield "own records", (b"\x00\x01\x05" + bytes(96)) * (size // 99)
    yield "indices", b"".join(at.to_bytes(2, "big") for at in range(min(1 << 16, size // 2)))


def _texts(size: int) -> Iterator[tuple[str, bytes]]:
    block = b"-----BEGIN FEDAPT ROSTER-----\n%s\n-----END FEDAPT ROSTER-----\n"
    yield "white space", block % (b" \n" * (size // 2 - 60))
    yield "letters", block % (b"A" * (size - 120))
    yield "lines", block % (b"A\n" * (size // 2 - 60))
    yield "many blocks", (block % b"A") * (size // len(block))


def _revocations(size: int) -> Iterator[tuple[str, bytes]]:
    authority = CertificateAuthority.create("some federation", TlsKey.generate())
    when = datetime.now(UTC) - timedelta(days=1)
    revoked = [Revocation(serial=(1 << 150) + at, revoked_at=when) for at in range(min(size // 80, 50_000))]
    yield "a long list", authority.revocation_list(revoked, 1)
    yield (
        "rubbish",
        b"-----BEGIN X509 CRL-----\n" + b"MIIB" * (size // 4 - 20) + b"\n-----END X509 CRL-----\n",
    )


def targets() -> Mapping[str, Target]:
    """Return all of them by name, the bundle's but where `with_bundles` is asked."""
    found: dict[str, Target] = {}
    frames = {"from-institution", "from-coordinator"}
    answers = {"from-enrolment-desk", "enrolment-files", "masking-to-coordinator", "masking-to-institution"}
    for name in (*sorted(frames), *sorted(answers), "from-applicant", "session-configuration"):
        size = USUAL_MESSAGE_BYTES if name in frames else 16 << 10 if name == "from-applicant" else 16 * MIB
        found[name] = Target(DECODERS[name], size, _messages(name))
    for cls in message_classes():
        largest = min(cls.max_bytes, USUAL_MESSAGE_BYTES)  # whatever a payload may have, it comes in a frame
        found[f"message-{cls.__name__}"] = Target(
            cls.from_bytes, largest, _messages(f"message-{cls.__name__}")
        )
    for name in ("log-line", "log-witnessed", "log-closed", "log-header"):
        found[name] = Target(DECODERS[name], MAX_LINE_BYTES, _lines)
    for name in ("parcels", "parties", "digests", "merkle-proof", "masked-input", "rounds"):
        found[name] = Target(DECODERS[name], USUAL_MESSAGE_BYTES if name == "rounds" else 16 * MIB, _tables)
    found["roster for people"] = Target(_roster, MAX_ROSTER_BYTES, bombs.json_bombs)
    found["text files of enrolment"] = Target(_text, 2 * MAX_ANSWER_FRAME_BYTES, _texts)
    found["join string"] = Target(_join_string, 64 << 10, _texts)
    authority = CertificateAuthority.create("federation", TlsKey.generate()).certificate_pem
    found["revocation list"] = Target(
        partial(read_revocation_list, authority=authority), MAX_ANSWER_FRAME_BYTES, _revocations
    )
    found["certificate"] = Target(facts, 8192, _tables)
    return found


def _roster(data: bytes) -> object:
    return roster_from_json(data, Path("roster.json"))


def _text(data: bytes) -> object:
    return from_file(data, RosterFile, "a file")


def _join_string(data: bytes) -> object:
    return JoinString.from_text("fedapt1-" + data.decode("latin-1"))


def bundles() -> Target:
    """Return the bundle's; imports torch, which takes seconds."""
    from fedapt_secure.learning.bundle import decode_bundle  # noqa: PLC0415

    return Target(lambda data: decode_bundle(data, "a file"), 32 * MIB, _bundles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest-mib", type=float, default=64.0, help="no input is larger; 64 if not given")
    parser.add_argument("--only", default="", help="targets whose names contain this")
    arguments = parser.parse_args()
    inputs, failed = 0, 0
    chosen = {**targets(), "model bundle": bundles()}
    for name, target in chosen.items():
        if arguments.only not in name:
            continue
        size = min(target.largest, int(arguments.largest_mib * MIB))
        worst: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, "-"))
        for bomb, data in target.bombs(size):
            cost = measure(target.decode, data)
            inputs += 1
            beyond = max(0, cost.memory_bytes - SPARE_BYTES) / len(data)
            for what, figure in (
                ("factor", beyond),
                ("MiB", cost.memory_bytes / MIB),
                ("seconds", cost.seconds),
            ):
                worst[what] = max(worst[what], (figure, bomb))
            if not cost.holds(len(data)):
                failed += 1
                print(f"FAILED {name}: {bomb}, {len(data):,} bytes: {cost}", flush=True)
        said = ", ".join(f"{figure:.2f} {what} ({bomb})" for what, (figure, bomb) in worst.items())
        print(f"{name}, at most {size / MIB:.2f} MiB: {said}", flush=True)
    print(f"{inputs:,} inputs, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
