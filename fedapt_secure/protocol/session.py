"""What a session is: the plan that people choose, and the signed configuration that parties agree on."""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedapt_crypto.encoding import Hash, Message
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg import cohorts, groups, registry
from fedapt_crypto.secagg.ckks.parameters import pieces_of
from fedapt_crypto.secagg.masking.graph import Topology, topology
from fedapt_crypto.secagg.scheme import SESSION_BYTES, RoundContext
from fedapt_secure.config import ranges
from fedapt_secure.config.gradient_units import TEXT_FEATURES, GradientUnits
from fedapt_secure.config.unsupervised import WHY_NOT_PRIVATE
from fedapt_secure.protocol.class_names import check_class_names
from fedapt_secure.protocol.initial_context import InitialContext
from fedapt_secure.protocol.key_assignment import assign_keys, domains_of_keys
from fedapt_secure.protocol.methods import FEDAPT, MethodFacts, method_facts
from fedapt_secure.protocol.parameters import ParameterShape, Vector, initial_parameters
from fedapt_secure.protocol.resolution import check_clip, typical_change
from fedapt_secure.protocol.unsupervised import LABELS, UnsupervisedPlan

ShortText = Annotated[str, Field(min_length=1, max_length=256)]
UPDATE_PURPOSE = "update"
DEFAULT_RATE_KBIT_S = 128.0
"""What a mobile line with a bad signal still carries."""
MAX_CONFIGURATION_BYTES = 16 << 20
MAX_MODEL_BYTES = 63 << 20
"""What a round's model or sealed sum may take; the frame around it has 1 MiB more."""
PIECE_BYTES = 1 << 16
"""The least that one CKKS ciphertext takes: two polynomials of 4,096 coefficients, 8 bytes each."""


class SessionPlan(BaseModel):
    """What the coordinator's operator decides before a session; public, no secret in it.

    Numbers lie in ranges that have their reasons, see `fedapt_secure.config.ranges`.

    Attributes:
        class_names: M class names, as they stand in prompts; all different, see `class_names`.
        domains: Names of the domains; a member of the roster says its own by its place.
        zero_shot_template: Caption with one ``{}``, for the comparison without learning.
        model: open_clip model name, or ``tiny``.
        pretrained: open_clip tag or file name; ``None`` for ``tiny``.
        weight_hash: SHA-256 of the frozen weights, hexadecimal; each institution checks its own copy.
        text_width: W. feature_size: D. context_tokens: n_ctx.
        method: What is trained, and how; see `methods`.
        tower_values: Number of values of the image tower, for methods that train it; 0 for the others.
        rounds, local_steps, sample_rate, learning_rate, momentum, max_grad_norm: The training plan.
        gradient_units: Of what gradients are taken for the step, see `GradientUnits`.
        weight_decay: L2 penalty on the trained values.
        proximal_weight: μ of FedProx' penalty on the distance from the round's start; 0 for none.
        differential_privacy: Whether institutions must train under DP.
        secure_aggregation: Name of the scheme.
        participation: Who takes part in a round: ``all``, or ``one-per-domain`` by a public rule; with
            ``ckks`` only ``all``.
        clip: Largest absolute value of an update that the fixed-point encoding represents.
        temperature: τ of the routing softmax.
        keys: K, how many domain keys there are; ``None`` for one a domain. See `key_assignment`.
        initial_seed: Seed of the initial parameters.
        initial_context: Words that contexts start from; ``None`` for random ones.
        unsupervised: How to train without labels, which are never looked at then; ``None`` for with labels.
        round_timeout_s: How long the coordinator waits for the first message of a round (training).
        phase_timeout_s: How long it waits in every other phase.
        gather_timeout_s: How long it waits for missing institutions before a round.
        return_timeout_s: How long it waits for institutions that are out to come back (who has said no, whose
            images or disk want mending) where no round can take place without them; then the session ends.
        minimum_rate_kbit_s: What every institution's line carries at least, either way, while all of a round
            use theirs. Each of the three times is longer by what its messages take at this rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: Annotated[tuple[ShortText, ...], Field(min_length=2, max_length=4096)]
    domains: Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=4096)]
    zero_shot_template: ShortText
    model: ShortText
    pretrained: ShortText | None
    weight_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    text_width: Annotated[int, ranges.WIDTH]
    feature_size: Annotated[int, ranges.WIDTH]
    context_tokens: Annotated[int, ranges.CONTEXT_TOKENS]
    class_specific: bool
    method: ShortText = FEDAPT
    tower_values: Annotated[int, ranges.TOWER_VALUES] = 0
    rounds: Annotated[int, ranges.ROUNDS]
    local_steps: Annotated[int, ranges.LOCAL_STEPS]
    sample_rate: Annotated[float, ranges.SAMPLE_RATE]
    learning_rate: Annotated[float, ranges.LEARNING_RATE]
    gradient_units: GradientUnits = TEXT_FEATURES
    momentum: Annotated[float, ranges.MOMENTUM]
    weight_decay: Annotated[float, ranges.WEIGHT_DECAY] = 0.0
    proximal_weight: Annotated[float, ranges.PROXIMAL_WEIGHT] = 0.0
    max_grad_norm: Annotated[float, ranges.MAX_GRAD_NORM]
    differential_privacy: bool
    secure_aggregation: ShortText
    participation: cohorts.Participation = cohorts.EVERYBODY
    clip: Annotated[float, ranges.UPDATE_CLIP]
    temperature: Annotated[float, ranges.TEMPERATURE]
    keys: Annotated[int, ranges.KEYS] | None = None
    initial_seed: Annotated[int, ranges.SEED]
    initial_context: InitialContext | None = None
    unsupervised: UnsupervisedPlan | None = None
    round_timeout_s: Annotated[float, ranges.TRAINING_TIME]
    phase_timeout_s: Annotated[float, ranges.PHASE_TIME]
    gather_timeout_s: Annotated[float, ranges.PHASE_TIME]
    return_timeout_s: Annotated[float, ranges.RETURN_TIME] = 1_209_600.0
    minimum_rate_kbit_s: Annotated[float, ranges.LINE_RATE] = DEFAULT_RATE_KBIT_S

    @field_validator("class_names")
    @classmethod
    def _classes_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_class_names(names)
        return names

    @model_validator(mode="after")
    def _consistent(self) -> "SessionPlan":
        registry.check_participation(self.secure_aggregation, self.participation)
        if self.rounds * self.local_steps > ranges.MAX_STEPS:
            raise ValueError(f"rounds x local_steps must not exceed {ranges.number(ranges.MAX_STEPS)}")
        return self

    def initial_model(self) -> Vector:
        """Return the parameters of the first round, which everybody can compute."""
        start = self.initial_context
        words = None if start is None else start.embeddings(self.text_width)
        return initial_parameters(self.shape, self.initial_seed, words)

    @property
    def supervision(self) -> str:
        """What training is guided by, in a few words."""
        if self.unsupervised is None:
            return LABELS
        return self.unsupervised.said(self.rounds, private=self.differential_privacy)

    def is_consistency_round(self, round_number: int) -> bool:
        """Return whether a round, from 1, is of the second stage of training without labels."""
        last = 0 if self.unsupervised is None else self.unsupervised.consistency_rounds
        return round_number > self.rounds - last

    @property
    def key_count(self) -> int:
        """K: how many domain keys there are."""
        return self.keys or len(self.domains)

    @property
    def shape(self) -> ParameterShape:
        """Sizes of the trained module."""
        return ParameterShape(
            classes=len(self.class_names),
            context_tokens=self.context_tokens,
            text_width=self.text_width,
            feature_size=self.feature_size,
            domains=self.key_count,
            class_specific=self.class_specific,
            method=self.method,
            tower_values=self.tower_values,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        try:
            facts = method_facts(self.method)
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        if self.differential_privacy and facts.never_private is not None:
            raise ValueError(
                f"the method {self.method} cannot be trained under differential privacy:"
                f" {facts.never_private}"
            )
        if facts.class_specific not in (None, self.class_specific):
            raise ValueError(f"the method {self.method} needs class_specific: {facts.class_specific}")
        if facts.federated and self.shape.size < 1:
            raise ValueError(f"the method {self.method} needs tower_values: the size of the image tower")
        self._check_unsupervised(facts)
        self._check_initial_context()
        return self

    def _check_unsupervised(self, facts: MethodFacts) -> None:
        if self.unsupervised is None:
            return
        if facts.never_unsupervised is not None:
            raise ValueError(
                f"the method {self.method} cannot be trained without labels: {facts.never_unsupervised}"
            )
        if self.unsupervised.consistency_rounds and self.differential_privacy:
            raise ValueError(f"consistency_rounds must be 0 under differential privacy: {WHY_NOT_PRIVATE}")
        if self.unsupervised.consistency_rounds > self.rounds:
            raise ValueError("there are more consistency_rounds than rounds")

    def _check_initial_context(self) -> None:
        if self.initial_context is None:
            return
        if not method_facts(self.method).learns_context:
            raise ValueError(f"the method {self.method} learns no context that could start from words")
        try:
            count = len(self.initial_context.embeddings(self.text_width))
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        if count > self.context_tokens:
            raise ValueError(
                f"initial_context has {count} tokens and context_tokens is {self.context_tokens}: raise it"
            )


class SessionConfiguration(Message):
    """The plan, the roster and the commitments to the domain keys, as signed by the coordinator."""

    max_bytes = MAX_CONFIGURATION_BYTES
    same_for_all = True

    protocol: Literal["fedapt-secure/1"] = "fedapt-secure/1"
    session: Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
    plan: SessionPlan
    roster: Roster
    key_commitments: tuple[Hash, ...]

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
            learning_rate=plan.learning_rate,
            momentum=plan.momentum,
            max_grad_norm=plan.max_grad_norm,
            local_steps=plan.local_steps,
            values=plan.shape.size,
        )
        check_clip(plan.clip, self.cohort_size, change)

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
