"""One round of ours and of TenSEAL's CKKS, as `secure_aggregation.py` and `wire.py` measure it."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import threshold
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.graph import Topology, topology
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.scheme import Phase, RoundContext
from tests.support.rosters import roster_of

CLIP = 4.0
LARGE = 1 << 22
SMALL = 100_000


@dataclass(frozen=True)
class Case:
    """One size of a round; ``neighbours`` is what each institution draws, ``None`` for everybody."""

    institutions: int
    length: int
    graph: str
    repeats: int
    neighbours: int | None = None
    against_flower: bool = True

    @property
    def title(self) -> str:
        return f"n={self.institutions}, d={self.length:,}, {self.graph}"

    @property
    def topology(self) -> Topology:
        n = self.institutions
        if self.graph == "chosen graph":
            return topology(n)
        if self.neighbours is None:
            return Topology(n - 1, threshold(n), threshold(n))
        return Topology(self.neighbours, threshold(self.neighbours + 1), n - n // 10)


CASES = (
    Case(10, SMALL, "full graph", 9),
    Case(10, LARGE, "full graph", 5),
    Case(100, SMALL, "20 neighbours", 3, neighbours=20),
    Case(100, SMALL, "full graph", 3, against_flower=False),
    Case(100, LARGE, "20 neighbours", 1, neighbours=20, against_flower=False),
    Case(1000, SMALL, "chosen graph", 1, against_flower=False),
)
QUICK = (
    Case(10, SMALL, "full graph", 3),
    Case(20, SMALL, "10 neighbours", 1, neighbours=10),
    Case(100, SMALL, "20 neighbours", 1, neighbours=20, against_flower=False),
)


@dataclass
class Timings:
    """What one round cost."""

    clients: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    phases: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    server: float = 0.0
    value_bytes: float = 0.0
    fixed_bytes: float = 0.0

    @contextmanager
    def client(self, index: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.clients[index] += time.perf_counter() - start

    @contextmanager
    def coordinator(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.server += spent
        self.phases[phase] += spent

    @property
    def client_seconds(self) -> float:
        return statistics.median(self.clients.values())


class Parties:
    """A roster and updates; 16 distinct updates serve any number of institutions."""

    def __init__(self, institutions: int, length: int) -> None:
        self.identities = [Identity.generate() for _ in range(institutions)]
        sealing_key = SealingKey.fresh().public_key
        entries = [(f"clinic-{i}", identity, sealing_key, 0) for i, identity in enumerate(self.identities)]
        self.coordinator = Identity.generate()
        self.roster = roster_of(self.coordinator.public_key, entries)
        self.group = GroupSecret.fresh(bytes(16))
        rng = np.random.default_rng(institutions)
        shape = (min(16, institutions), length)
        self._updates = rng.standard_normal(shape, np.float32).clip(-CLIP, CLIP)

    def update(self, index: int) -> np.ndarray:
        return self._updates[index % len(self._updates)]

    def total(self, indices: range) -> np.ndarray:
        counts = np.bincount([i % len(self._updates) for i in indices], minlength=len(self._updates))
        return counts @ self._updates.astype(np.float64)

    def context(self, case: Case) -> RoundContext:
        graph = case.topology
        return RoundContext(
            session=self.group.session,
            round=1,
            attempt=1,
            purpose="update",
            configuration_hash=digest("benchmark configuration"),
            roster_hash=self.roster.hash,
            model_hash=digest("benchmark model"),
            participants=case.institutions,
            threshold=graph.quorum,
            neighbours=graph.neighbours,
            share_threshold=graph.share_threshold,
            vector_length=case.length,
            clip=CLIP,
            group=self.group.commitment,
        )


def our_round(case: Case, parties: Parties) -> Timings:
    """Play the whole masking protocol, the check of the sum at each institution included.

    The last institution drops out before its masked input.
    """
    timings, context = Timings(), parties.context(case)
    names = parties.roster.names
    coordinator = MaskingCoordinator(context, parties.roster, parties.coordinator)
    machines: dict[str, MaskingInstitution] = {}
    answers: dict[str, bytes] = {}
    for i, name in enumerate(names):
        with timings.client(i):
            machines[name] = MaskingInstitution(
                context,
                parties.roster,
                name,
                parties.identities[i],
                parties.update(i),
                group=parties.group,
            )
            answers[name] = machines[name].start().payload
    deliveries: dict[str, bytes] = {}
    sent: dict[int, int] = defaultdict(int)
    while (phase := coordinator.phase) is not None:
        for i, name in enumerate(names):
            if phase is Phase.MASKED_INPUT and name == names[-1]:
                coordinator.drop(name)
            if name not in coordinator.waiting_for:
                continue
            if phase is not Phase.ADVERTISE:
                with timings.client(i):
                    answer = machines[name].receive(deliveries.pop(name))
                assert answer is not None
                answers[name] = answer.payload
            if phase is Phase.MASKED_INPUT:
                timings.value_bytes = len(answers[name]) / case.length
            else:
                sent[i] += len(answers[name])
            with timings.coordinator(phase.value):
                coordinator.receive(name, answers.pop(name))
        with timings.coordinator(phase.value):
            deliveries = dict(coordinator.close_phase())
    timings.fixed_bytes = statistics.median(sent.values())
    assert tuple(deliveries) == names[:-1]
    expected = parties.total(range(len(names) - 1))
    for i, name in enumerate(deliveries):
        machine = machines.pop(name)
        with timings.client(i):
            machine.receive(deliveries[name])
        assert machine.aggregate is not None
        assert machine.aggregate.contributors == names[:-1]
        check_sum(machine.aggregate.total, expected, len(names) * 2**-20)
    timings.clients.pop(len(names) - 1)
    return timings


def ckks_round(case: Case, parties: Parties) -> Timings:
    """Encrypt, add and decrypt with the parameters of TenSEAL's tutorial.

    One ciphertext stands for all: each would cost the same. Keys are made outside the round.
    """
    import tenseal  # noqa: PLC0415 - an extra

    timings, contributors = Timings(), case.institutions - 1
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60], n_threads=1
    )
    context.global_scale = 2**40
    update, slots = parties.update(0).astype(np.float64), 4096
    with timings.client(0):
        pieces = [
            tenseal.ckks_vector(context, update[start : start + slots]).serialize()
            for start in range(0, update.size, slots)
        ]
    timings.value_bytes = sum(map(len, pieces)) / update.size
    sums = []
    for piece in pieces:
        with timings.coordinator("update"):
            total = tenseal.ckks_vector_from(context, piece)
            for _ in range(contributors - 1):
                total += tenseal.ckks_vector_from(context, piece)
            sums.append(total.serialize())
    with timings.client(0):
        decrypted = [tenseal.ckks_vector_from(context, data).decrypt() for data in sums]
    check_sum(np.concatenate(decrypted), contributors * update, contributors * 1e-5)
    return timings


def check_sum(found: np.ndarray, expected: np.ndarray, bound: float) -> None:
    """Refuse to report the time of a wrong sum."""
    error = float(np.abs(found - expected).max())
    if error > bound:
        raise SystemExit(f"a sum is off by {error:.3g}, more than {bound:.3g}: not measuring this")
