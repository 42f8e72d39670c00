"""Throw changed messages at every decoder and at live machines; only our own errors may come back.

    python -m tests.fuzz.fuzz_decoders --seconds 180
    python -m tests.fuzz.fuzz_decoders --atheris [libFuzzer options]

The first form mutates at random the seeds in ``corpus`` and the messages of a round played on the spot.
The second, where atheris is installed, is guided by coverage. An input fails that raises anything but a
`FedaptError`, takes longer than two seconds, or, for a live coordinator, is accepted although it is not
the message that the institution signed. Failing inputs are written to the working folder.
"""

import argparse
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from fedapt_crypto.encoding import Message, encode
from fedapt_crypto.errors import FedaptError, MalformedMessage
from fedapt_crypto.secagg.masking.coordinator import _KINDS as TO_COORDINATOR
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_crypto.secagg.masking.messages import ShareMessage
from fedapt_crypto.secagg.signed import SignedMessage
from tests.crypto.secagg.frames import join_masked, masked
from tests.fuzz.decoders import DECODERS, MASKED_VALUES
from tests.fuzz.live import Stage, play
from tests.fuzz.mutate import mutated

CORPUS = Path(__file__).parent / "corpus"
LONGEST_INPUT_SECONDS = 2.0
MEMORY_GROWTH_MIB = 512
PER_WORLD = 20_000
"""Inputs after which a new round is played, with new keys."""


class Hang(Exception):
    """An input took too long."""


class Fuzzer:
    """Seeds, targets and counts of one run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seeds = {name: read_seeds(name) for name in DECODERS}
        self.all_seeds = [data for seeds in self.seeds.values() for data in seeds]
        self.stages = play()
        self.targets = (*DECODERS, *self.stages)
        self.tried: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.input = b""

    def step(self) -> None:
        """Try one input on one target; raises whatever should not come out of it."""
        count = sum(self.tried.values())
        if count and count % PER_WORLD == 0:
            self.stages = play()
        target = self.rng.choice(self.targets)
        self.tried[target] += 1
        if target in DECODERS:
            self.input = mutated(self.rng.choice(self.seeds[target]), self.all_seeds, self.rng)
            self.accepted[target] += attempt(DECODERS[target], self.input)
            return
        stage = self.stages[target]
        others = [other.message for other in self.stages.values()]
        self.input = mutated(stage.message, others, self.rng)
        if stage.identity is not None and self.rng.random() < 0.5:
            self.input = signed_anew(stage, self.input)
            self.accepted[target] += attempt(stage.receive, self.input)
        else:
            self.accepted[target] += try_stage(stage, self.input)


def read_seeds(name: str) -> Sequence[bytes]:
    """Return the corpus of one decoder; an empty input where there is none."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))] or [b""]


def attempt(take: Callable[[bytes], object], data: bytes) -> bool:
    """Return whether ``data`` is accepted; a message that is must encode to it from its fields alone."""
    try:
        result = take(data)
    except FedaptError:
        return False
    if isinstance(result, MaskedPayload) and join_masked(result.header, bytes(result.vector)) != data:
        raise AssertionError("a masked input was accepted in two spellings")
    if isinstance(result, Message) and encode(result.model_dump(mode="python")) != data:
        raise AssertionError("a message was accepted in two spellings")
    return True


def try_stage(stage: Stage, data: bytes) -> bool:
    """Feed ``data`` to a live machine; what an institution signed cannot be changed on the way."""
    accepted = attempt(stage.receive, data)
    if accepted and isinstance(stage.machine, MaskingCoordinator) and data != stage.message:
        raise AssertionError("the coordinator accepted what the institution did not sign")
    return accepted


def signed_anew(stage: Stage, data: bytes) -> bytes:
    """Return the changed message signed by its sender: what a dishonest institution would send."""
    assert stage.identity is not None
    try:
        payload = MaskedPayload.from_bytes(data, MASKED_VALUES, "")
        return masked(payload.header, bytes(payload.vector), stage.identity)
    except MalformedMessage:
        pass
    for cls in TO_COORDINATOR.values():
        try:
            message = cls.from_bytes(data, max_bytes=1 << 20)
        except MalformedMessage:
            continue
        if isinstance(message, ShareMessage):
            header = message.header.signed_by(stage.identity)
            return message.model_copy(update={"header": header}).to_bytes()
        assert isinstance(message, SignedMessage)
        return message.signed_by(stage.identity).to_bytes()
    return data


def run(seconds: float, seed: int, most: int | None = None) -> Fuzzer:
    """Mutate at random for so long or so many inputs; an input that fails is stored and raised."""
    fuzzer = Fuzzer(seed)
    memory_mib = peak_memory_mib()
    signal.signal(signal.SIGALRM, _too_long)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and (most is None or sum(fuzzer.tried.values()) < most):
            signal.setitimer(signal.ITIMER_REAL, LONGEST_INPUT_SECONDS)
            fuzzer.step()
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception:
        Path("failing-input.bin").write_bytes(fuzzer.input)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = peak_memory_mib() - memory_mib
    if grown > MEMORY_GROWTH_MIB:
        raise AssertionError(f"memory grew by {grown} MiB")
    return fuzzer


def _too_long(signal_number: int, frame: FrameType | None) -> None:
    raise Hang(f"an input took longer than {LONGEST_INPUT_SECONDS} s")


def peak_memory_mib() -> int:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def run_atheris(arguments: list[str]) -> None:
    """Let atheris choose inputs: a byte for the target, then a message or a patch to a live one."""
    import atheris  # noqa: PLC0415 - optional

    atheris.instrument_all()
    fuzzer = Fuzzer(0)

    def one_input(data: bytes) -> None:
        target = fuzzer.targets[data[0] % len(fuzzer.targets)] if data else fuzzer.targets[0]
        if target in DECODERS:
            attempt(DECODERS[target], data[1:])
            return
        stage = fuzzer.stages[target]
        position = int.from_bytes(data[1:3]) % len(stage.message)
        patch = data[3:]
        try_stage(stage, stage.message[:position] + patch + stage.message[position + len(patch) :])

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="how long; 180 if not given")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; needs atheris")
    arguments, rest = parser.parse_known_args()
    if arguments.atheris:
        run_atheris(rest)
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    fuzzer = run(arguments.seconds, seed)
    for target in fuzzer.targets:
        print(f"{target:40} {fuzzer.tried[target]:>9,} tried {fuzzer.accepted[target]:>9,} accepted")
    print(f"{sum(fuzzer.tried.values()):,} inputs, none failed; at most {peak_memory_mib()} MiB")


if __name__ == "__main__":
    main()
