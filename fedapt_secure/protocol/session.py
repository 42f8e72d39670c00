"""What a session is: the signed configuration that parties agree on, and what follows from it."""

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedapt_crypto.encoding import Hash, Message
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg import cohorts, groups, registry
from fedapt_crypto.secagg.ckks.parameters import pieces_of
from fedapt_crypto.secagg.masking.graph import Topology, topology
from fedapt_crypto.secagg.scheme import SESSION_BYTES, RoundContext
from fedapt_secure.config.learning_rate import mean_share
from fedapt_secure.config.ranges import LARGEST_MESSAGE_BYTES
from fedapt_secure.privacy.prior_weight import Contribution, prior_weight
from fedapt_secure.protocol.key_assignment import assign_keys, domains_of_keys
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.resolution import check_clip, typical_change

UPDATE_PURPOSE = "update"
MAX_CONFIGURATION_BYTES = 16 << 20
FRAME_BYTES = 1 << 20
"""What the frame around a round's model or sealed sum may take."""
_FRAME_SHARE = 63
"""Frames of small models are small: 64 MiB is 63 MiB and a frame, and 64 KiB likewise."""
MAX_MODEL_BYTES = LARGEST_MESSAGE_BYTES - FRAME_BYTES
"""What a round's model or sealed sum may take at most, whatever the parties' own limits are."""
PIECE_BYTES = 1 << 16
"""The least that one CKKS ciphertext takes: two polynomials of 4,096 coefficients, 8 bytes each."""


class SessionConfiguration(Message):
    """The plan, the roster and the commitments to the domain keys, as signed by the coordinator."""

    max_bytes = MAX_CONFIGURATION_BYTES
    same_for_all = True

    protocol: Literal["fedapt-secure/1"] = "fedapt-secure/1"
    session: Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
    plan: SessionPlan
    roster: Roster
    key_commitments: tuple[Hash, ...]

    @classmethod
    def drafted(cls, plan: SessionPlan, roster: Roster, session: bytes = bytes(SESSION_BYTES)) -> Self:
        """Return a session that nobody holds keys of, to see what one of this plan and roster would be.

        Args:
            plan: The plan.
            roster: Who would take part.
            session: Its identifier.

        Raises:
            ValidationError: If plan and roster do not go together.
        """
        no_keys = tuple(bytes(32) for _ in range(plan.key_count))
        return cls(session=session, plan=plan, roster=roster, key_commitments=no_keys)

    @model_validator(mode="after")
    def _consistent(self) -> "SessionConfiguration":
        if len(self.key_commitments) != self.plan.key_count:
            raise ValueError("one commitment a domain key is needed")
        if any(member.domain_index >= len(self.plan.domains) for member in self.roster.members):
            raise ValueError("a member's domain does not exist")
        try:
            assign_keys(self._member_domains, len(self.plan.domains), self.plan.key_count)
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        if len(self.roster.members) > 1 and not method_facts(self.plan.method).federated:
            raise ValueError(f"{self.plan.method} is for one institution alone, not for a session of several")
        registry.phases(self.plan.secure_aggregation)
        return self

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the whole configuration: what institutions agree to."""
        return digest("session configuration", self.to_bytes())

    @cached_property
    def _keys_held(self) -> tuple[int, ...]:
        return assign_keys(self._member_domains, len(self.plan.domains), self.plan.key_count)

    @property
    def _member_domains(self) -> tuple[int, ...]:
        return tuple(member.domain_index for member in self.roster.members)

    @property
    def keys_are_shared(self) -> bool:
        """Whether domain keys follow from the group secret too, which the coordinator does not know."""
        return self.needs_group and not self.plan.bundle_for_coordinator

    def key_index(self, name: str) -> int:
        """Return which domain key an institution holds; raises `InvalidInput` for a stranger."""
        return self._keys_held[self.roster.index(name)]

    def own_keys(self, name: str) -> frozenset[int]:
        """Return the keys that serve an institution's domain; raises `InvalidInput` for a stranger."""
        domain = self.roster.member(name).domain_index
        return frozenset(key for key, domains in enumerate(self.key_domains) if domain in domains)

    @property
    def key_domains(self) -> tuple[tuple[int, ...], ...]:
        """The domains of each domain key, as their places in the plan."""
        return domains_of_keys(self._member_domains, len(self.plan.domains), self.plan.key_count)

    @property
    def threshold(self) -> int:
        """How many institutions a round needs, from the roster and not from who shows up."""
        return self.topology.quorum

    @property
    def statements_needed(self) -> int:
        """v: how many of a round's roster must state a model alike before one who was away takes it.

        With fewer than v corrupt, one of them has verified it: 2t - n, on a neighbour graph a tenth and one.
        """
        if self.topology.neighbours < self.cohort_size - 1:
            return self.cohort_size // 10 + 1
        return max(1, 2 * self.topology.quorum - self.cohort_size)

    @property
    def cohort_size(self) -> int:
        """How many institutions take part in a round; every round has as many."""
        return cohorts.cohort_size(self.roster, self.plan.participation)

    @property
    def topology(self) -> Topology:
        """Who shares masks with whom, from the size of a round's roster alone."""
        return topology(self.cohort_size)

    def round_roster(self, round_number: int) -> Roster:
        """Return who takes part in a round, as everybody computes it."""
        return cohorts.round_roster(self.roster, self.plan.participation, self.hash, round_number)

    def own_rounds(self, name: str) -> tuple[int, ...]:
        """Return the rounds in which an institution takes part; raises `InvalidInput` for a stranger."""
        return cohorts.rounds_of(self.roster, self.plan.participation, self.hash, self.plan.rounds, name)

    def planned_steps(self, name: str) -> int:
        """Return for how many steps an institution plans its noise: those of its own rounds.

        At least those of one round: a plan without any step is none, and one that is never spent is free.
        """
        return max(1, len(self.own_rounds(name))) * self.plan.local_steps

    @cached_property
    def prior_weight(self) -> float:
        """w, how much of the hand-written prompt the finished model keeps: the same at everybody."""
        plan = self.plan
        if plan.prior_weight is not None or not plan.differential_privacy:
            return plan.prior_weight or 0.0
        expected = plan.expected
        return self.prior_weight_of(
            Contribution.of_budget(
                expected.epsilon, expected.stated_delta, self.planned_steps(member.name), expected.records
            )
            for member in self.roster.members
        )

    def prior_weight_of(self, contributions: Iterable[Contribution]) -> float:
        """Return the weight that would suit these noises of all institutions."""
        plan = self.plan
        return prior_weight(
            contributions,
            participants=self.cohort_size,
            steps=plan.rounds * plan.local_steps,
            noisy_values=method_facts(plan.method).noisy_values(plan.shape),
        )

    def check_scheme(self) -> None:
        """Refuse, before anything starts, rounds that the scheme cannot hold.

        Raises:
            InvalidInput: Saying what to change.
        """
        scheme = self.plan.secure_aggregation
        cohorts.check_size(self.roster, self.plan.participation, registry.MIN_INSTITUTIONS[scheme])
        registry.check_round(scheme, self.round_context(1, 1, bytes(32), None))
        self._check_clip()
        if self.largest_message_bytes > MAX_MODEL_BYTES:
            raise InvalidInput(
                f"the method {self.plan.method} trains {self.plan.shape.size:,} values of {self.plan.model},"
                f" {self.largest_message_bytes >> 20} MiB a message, and {MAX_MODEL_BYTES >> 20} MiB are"
                " possible: choose a smaller model or another method"
            )

    def _check_clip(self) -> None:
        plan = self.plan
        if plan.secure_aggregation == registry.NONE:
            return  # sent as they are, without a clip
        change = typical_change(
            learning_rate=plan.learning_rate * mean_share(plan.learning_rate_schedule),
            momentum=plan.momentum,
            max_grad_norm=plan.max_grad_norm,
            local_steps=plan.local_steps,
            values=plan.shape.size,
        )
        check_clip(plan.clip, self.cohort_size, change)

    @property
    def needed_message_bytes(self) -> int:
        """What a party has to take of one message to be in this session: the largest, and its frame."""
        largest = self.largest_message_bytes
        return largest + min(FRAME_BYTES, largest // _FRAME_SHARE + 1)

    @property
    def largest_message_bytes(self) -> int:
        """What the largest message of a round takes at least: its model, or its sealed sum."""
        size = self.plan.shape.size
        return pieces_of(size) * PIECE_BYTES if self.blind else 4 * size

    @property
    def blind(self) -> bool:
        """Whether the coordinator knows neither updates nor model, only ciphertexts."""
        return self.plan.secure_aggregation == registry.CKKS

    @property
    def decryptions(self) -> int:
        """How many ciphertext pieces the session decrypts at most; its flooding noise is sized for it."""
        return self.plan.rounds * pieces_of(self.plan.shape.size)

    @property
    def needs_group(self) -> bool:
        """Whether the institutions share a secret before the first round."""
        return groups.needs_group(self.plan.secure_aggregation)

    def round_context(
        self, round_number: int, attempt: int, model_id: bytes, group: bytes | None
    ) -> RoundContext:
        """Return what all parties of a round must agree on.

        Args:
            round_number: From 1.
            attempt: From 1.
            model_id: Stands for the round's start.
            group: Commitment to the session's group secret; ``None`` where there is none, or not yet.
        """
        return RoundContext(
            session=self.session,
            round=round_number,
            attempt=attempt,
            purpose=UPDATE_PURPOSE,
            configuration_hash=self.hash,
            roster_hash=self.round_roster(round_number).hash,
            model_hash=model_id,
            participants=self.cohort_size,
            threshold=self.threshold,
            neighbours=self.topology.neighbours,
            share_threshold=self.topology.share_threshold,
            vector_length=self.plan.shape.size,
            clip=self.plan.clip,
            group=group,
        )


def model_hash(model: bytes) -> bytes:
    """Return the hash by which a model (flat little-endian float32) is known."""
    return digest("model", model)


def next_model_id(model_id: bytes, round_number: int, sum_payload: bytes) -> bytes:
    """Return what stands for the model after a round whose sum only institutions can open.

    Both sides can compute it, from the initial model and the signed sums: who starts from the same one and
    opens the same sums has the same model.

    Args:
        model_id: What stood for the model before.
        round_number: The round's number.
        sum_payload: Its sum as it was sent.
    """
    return digest("blind model", model_id, round_number, sum_payload)
