"""Run a whole aggregation round in memory: real machines on both sides, no sockets."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedapt_crypto.errors import FedaptError, PeerError
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Roster, threshold
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks import flooding
from fedapt_crypto.secagg.ckks.group import GroupKey, PublicGroup
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.scheme import (
    Admission,
    Aggregate,
    CoordinatorRound,
    InstitutionRound,
    Outgoing,
    Phase,
    RoundContext,
    admit_all,
)
from tests.crypto.secagg.ckks.groups import TEST_SECRET, make_groups
from tests.support.rosters import roster_of

SCHEMES = sorted(
    scheme
    for scheme in registry.PHASES
    if scheme != registry.CKKS or importlib.util.find_spec("tenseal") is not None
)
"""The schemes that can run here: TenSEAL is an extra."""
RELEASED_IN = {
    registry.MASKING: Phase.MASKED_INPUT,
    registry.CKKS: Phase.UPDATE,
    registry.NONE: Phase.UPDATE,
}
"""The phase whose payload carries the update."""

Tamper = Callable[[Phase | None, str, bytes], bytes | None]
"""(phase just closed, receiver, payload) to what really arrives; ``None`` loses it."""


COORDINATOR_IDENTITY = Identity.generate()
"""The coordinator's in every roster made here."""


def make_parties(n: int) -> tuple[Roster, dict[str, Identity]]:
    identities = {f"clinic-{i}": Identity.generate() for i in range(1, n + 1)}
    numbered = enumerate(identities.items())
    entries = [(name, identity, SealingKey.fresh().public_key, i) for i, (name, identity) in numbered]
    return roster_of(COORDINATOR_IDENTITY.public_key, entries), identities


def make_context(roster: Roster, length: int, **changes: object) -> RoundContext:
    fields: dict[str, object] = {
        "session": bytes(16),
        "round": 1,
        "attempt": 1,
        "purpose": "update",
        "configuration_hash": digest("test configuration"),
        "roster_hash": roster.hash,
        "model_hash": digest("test model"),
        "participants": len(roster.members),
        "threshold": threshold(len(roster.members)),
        "vector_length": length,
        "clip": 4.0,
    }
    all_fields = fields | changes
    group = GroupSecret(all_fields["session"], TEST_SECRET).commitment
    return RoundContext(**({"group": group} | all_fields))


def group_of(context: RoundContext) -> GroupSecret:
    """The group secret that a context here names."""
    return GroupSecret(context.session, TEST_SECRET)


@dataclass
class World:
    """One round among ``n`` institutions under one scheme."""

    n: int
    scheme: str = registry.MASKING
    length: int = 37
    minimum: int = 2
    clip: float = 4.0
    contexts: Mapping[str, RoundContext] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roster, self.identities = make_parties(self.n)
        self.context = make_context(self.roster, self.length, clip=self.clip)
        rng = np.random.default_rng(self.n)
        self.updates = {name: rng.normal(0, 1, self.length) for name in self.identities}
        self.keys: dict[str, GroupKey] = {}
        self.public: PublicGroup | None = None
        if self.scheme == registry.CKKS:
            self.keys, self.public = make_groups(self.roster, self.context.session)
        self.coordinator: CoordinatorRound = registry.coordinator_round(
            self.scheme, self.context, self.roster, COORDINATOR_IDENTITY, group=self.public
        )
        self.institutions: dict[str, InstitutionRound] = {
            name: self.institution(name, self.contexts.get(name, self.context), self.keys.get(name))
            for name in self.identities
        }
        self.sent_to_coordinator: list[tuple[str, Outgoing]] = []
        self.refusals: dict[str, FedaptError] = {}

    def institution(
        self,
        name: str,
        context: RoundContext,
        key: GroupKey | None = None,
        admits: Admission = admit_all,
    ) -> InstitutionRound:
        """A machine of one institution for any context."""
        group: GroupKey | GroupSecret | None = key
        if self.scheme == registry.CKKS and key is None:
            group = make_groups(self.roster, context.session)[0][name]
        if self.scheme == registry.MASKING:
            group = group_of(context)
        return registry.institution_round(
            self.scheme,
            context,
            self.roster,
            name,
            self.identities[name],
            self.updates[name],
            minimum_participants=self.minimum,
            group=group,
            admits=admits,
        )

    @property
    def aggregate(self) -> Aggregate | None:
        """The sum, from whoever has it; all who have it have the same."""
        sums = [m.aggregate for m in self.institutions.values() if m.aggregate is not None]
        if not sums:
            return self.coordinator.aggregate
        assert (self.coordinator.aggregate is None) == (self.scheme == registry.CKKS)
        for other in sums:
            assert np.array_equal(other.total, sums[0].total)
            assert other.contributors == sums[0].contributors == self.coordinator.contributors
        return sums[0]

    @property
    def error_bound(self) -> float:
        """How far from `exact_sum` a sum may be: only under ckks, whose noise ends at 8.6 deviations."""
        if self.scheme != registry.CKKS:
            return 0.0
        deviation = flooding.noise_deviation(self.n, flooding.DEFAULT_DECRYPTIONS)
        return 9 * deviation * self.context.fixed_point.resolution

    def exact_sum(self, names: tuple[str, ...]) -> np.ndarray:
        """The sum of the named updates as the scheme's encoding represents them."""
        if self.scheme == registry.NONE:
            return np.sum([self.updates[name].astype(np.float32) for name in names], axis=0, dtype=float)
        fixed = self.context.fixed_point
        words = [fixed.encode(self.updates[name])[0].view(np.int32).astype(np.int64) for name in names]
        return np.sum(words, axis=0) * fixed.resolution

    def run(
        self,
        vanish: Mapping[str, Phase] | None = None,
        tamper: Tamper = lambda phase, receiver, payload: payload,
    ) -> None:
        """Play the round to its end; who vanishes does so on entering a phase, before sending."""
        vanish, vanished = vanish or {}, set()
        answers = {name: machine.start() for name, machine in self.institutions.items()}
        while self.coordinator.phase is not None:
            phase = self.coordinator.phase
            for name, outgoing in answers.items():
                if vanish.get(name) == phase:
                    self.coordinator.drop(name)
                    vanished.add(name)
                    continue
                self.sent_to_coordinator.append((name, outgoing))
                try:
                    self.coordinator.receive(name, outgoing.payload)
                except PeerError as error:
                    self.refusals["coordinator"] = error
            deliveries = self.coordinator.close_phase()
            answers = {}
            for name, payload in deliveries.items():
                if name in vanished:
                    continue
                arriving = tamper(phase, name, payload)
                if arriving is None:
                    continue
                try:
                    answers[name] = self.institutions[name].receive(arriving)
                except PeerError as error:
                    self.refusals[name] = error
                    statement = self.institutions[name].abort_payload()
                    if statement is not None:
                        self.coordinator.receive(name, statement)
