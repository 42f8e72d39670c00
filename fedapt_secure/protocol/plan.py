"""The plan of a session: what people choose before it, and what of that does not go together."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from fedapt_crypto.encoding import FailFast
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.secagg import cohorts, registry
from fedapt_secure.config import ranges
from fedapt_secure.config.gradient_units import TEXT_FEATURES, GradientUnits
from fedapt_secure.config.key_use import AS_IN_THE_PAPER, MULTIPLY, UNIFORM, KeyFusion, KeyUse, KeyValues
from fedapt_secure.config.learning_rate import CONSTANT, LearningRateSchedule
from fedapt_secure.config.model_identity import ModelIdentity, Sha256
from fedapt_secure.config.paper_choices import WHY_BATCHES_ARE_NOT_PRIVATE, steps_said
from fedapt_secure.config.unsupervised import WHY_NOT_PRIVATE, WHY_SURE_IS_NOT_PRIVATE
from fedapt_secure.privacy.budget import LARGEST_DELTA
from fedapt_secure.protocol.class_names import (
    LEAST_CLASSES,
    MOST_CHARACTERS,
    MOST_CLASSES,
    check_classes,
    check_not_alone,
    check_printable,
)
from fedapt_secure.protocol.initial_context import InitialContext
from fedapt_secure.protocol.methods import FEDAPT, MethodFacts, method_facts
from fedapt_secure.protocol.parameters import ParameterShape, Vector, initial_parameters
from fedapt_secure.protocol.unsupervised import LABELS, UnsupervisedPlan

ShortText = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
Purpose = Annotated[str, Field(max_length=1000)]
DEFAULT_RATE_KBIT_S = 128.0
"""What a mobile line with a bad signal still carries."""
MAX_ATTEMPTS = 5
"""At one round of a session."""


class ExpectedBudget(FailFast):
    """What an institution of a session is expected to have; nothing checks it, and no privacy rests on it.

    Attributes:
        epsilon: ε of the session.
        delta: δ of it; ``None`` for what follows from ``records``.
        records: N̂: training images or persons.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon: Annotated[float, ranges.EPSILON] = 8.0
    delta: Annotated[float, ranges.SESSION_DELTA] | None = None
    records: Annotated[int, ranges.COUNT_OF_RECORDS] = 200

    @property
    def stated_delta(self) -> float:
        """δ, or 1 / (2 N̂) where none is given."""
        return self.delta or min(1 / (2 * self.records), LARGEST_DELTA)


class SessionPlan(FailFast):
    """What the coordinator's operator decides before a session; public, no secret in it.

    Numbers lie in ranges that have their reasons, see `fedapt_secure.config.ranges`.

    Attributes:
        class_names: M class names, as they stand in prompts; all different, see `class_names`.
        domains: Names of the domains; a member of the roster says its own by its place.
        purpose: What the session is for, as its institutions' people read it before they agree; may be empty.
        zero_shot_template: Caption with one ``{}``, for the comparison without learning.
        model: open_clip model name, or ``tiny``.
        pretrained: open_clip tag or file name; ``None`` for ``tiny``.
        weight_hash: SHA-256 of the frozen weights, hexadecimal; each institution checks its own copy.
        model_identity: What the model's features follow from besides the weights; checked in the same way.
        text_width: W. feature_size: D. context_tokens: n_ctx.
        method: What is trained, and how; see `methods`.
        tower_values: Number of values of the image tower, for methods that train it; 0 for the others.
        rounds, local_steps, sample_rate, learning_rate, momentum, max_grad_norm: The training plan.
        batch_size, local_epochs: Without differential privacy a round may be passes over an institution's
            shuffled records in batches of one size, each step a mean over its batch, as papers train;
            ``local_steps`` and ``sample_rate`` then only say what the clip range is checked against.
        learning_rate_schedule: How the learning rate goes over the session, see `LearningRateSchedule`.
        gradient_units: Of what gradients are taken for the step, see `GradientUnits`.
        loss_temperature: τ of the class loss, see `TrainingSettings`; 1 is the plain cross-entropy.
        domain_loss_weight: λ of the routing loss under clipping, see `TrainingSettings`.
        prior_weight: w, how much of the hand-written prompt the finished model keeps; ``None`` for what
            follows from ``expected``, and 0 without differential privacy.
        expected: What budget and data institutions are expected to have; decides w alone.
        weight_decay: L2 penalty on the trained values.
        proximal_weight: μ of FedProx' penalty on the distance from the round's start; 0 for none.
        differential_privacy: Whether institutions must train under DP.
        secure_aggregation: Name of the scheme.
        participation: Who takes part in a round: ``all``, or ``one-per-domain`` by a public rule; with
            ``ckks`` only ``all``.
        clip: Largest absolute value of an update that the fixed-point encoding represents.
        temperature: τ of the routing softmax.
        keys: K, how many domain keys there are; ``None`` for one a domain. See `key_assignment`.
        key_fusion, key_values: What keys do to the meta prompt, see `KeyUse`: another rule than the paper's
            is for experiments.
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
        bundle_for_coordinator: Whether the coordinator may have the finished bundle: domain keys then follow
            from the seeds that it draws, and it knows them from the start. With ``ckks`` it still has no
            model to go with them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: Annotated[tuple[ShortText, ...], Field(min_length=LEAST_CLASSES, max_length=MOST_CLASSES)]
    domains: Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=4096)]
    purpose: Purpose = ""
    zero_shot_template: ShortText
    model: ShortText
    pretrained: ShortText | None
    weight_hash: Sha256
    model_identity: ModelIdentity
    text_width: Annotated[int, ranges.WIDTH]
    feature_size: Annotated[int, ranges.WIDTH]
    context_tokens: Annotated[int, ranges.CONTEXT_TOKENS]
    class_specific: bool
    method: ShortText = FEDAPT
    tower_values: Annotated[int, ranges.TOWER_VALUES] = 0
    rounds: Annotated[int, ranges.ROUNDS]
    local_steps: Annotated[int, ranges.LOCAL_STEPS]
    sample_rate: Annotated[float, ranges.SAMPLE_RATE]
    batch_size: Annotated[int, ranges.BATCH_SIZE] | None = None
    local_epochs: Annotated[int, ranges.LOCAL_EPOCHS] = 1
    learning_rate: Annotated[float, ranges.LEARNING_RATE]
    learning_rate_schedule: LearningRateSchedule = CONSTANT
    gradient_units: GradientUnits = TEXT_FEATURES
    momentum: Annotated[float, ranges.MOMENTUM]
    weight_decay: Annotated[float, ranges.WEIGHT_DECAY] = 0.0
    proximal_weight: Annotated[float, ranges.PROXIMAL_WEIGHT] = 0.0
    max_grad_norm: Annotated[float, ranges.MAX_GRAD_NORM]
    loss_temperature: Annotated[float, ranges.LOSS_TEMPERATURE] = 1.0
    domain_loss_weight: Annotated[float, ranges.LOSS_WEIGHT] = 1.0
    prior_weight: Annotated[float, ranges.PRIOR_WEIGHT] | None = None
    expected: ExpectedBudget = ExpectedBudget()
    differential_privacy: bool
    secure_aggregation: ShortText
    participation: cohorts.Participation = cohorts.EVERYBODY
    clip: Annotated[float, ranges.UPDATE_CLIP]
    temperature: Annotated[float, ranges.TEMPERATURE]
    keys: Annotated[int, ranges.KEYS] | None = None
    key_fusion: KeyFusion = MULTIPLY
    key_values: KeyValues = UNIFORM
    initial_seed: Annotated[int, ranges.SEED]
    initial_context: InitialContext | None = None
    unsupervised: UnsupervisedPlan | None = None
    round_timeout_s: Annotated[float, ranges.TRAINING_TIME]
    phase_timeout_s: Annotated[float, ranges.PHASE_TIME]
    gather_timeout_s: Annotated[float, ranges.PHASE_TIME]
    return_timeout_s: Annotated[float, ranges.RETURN_TIME] = 1_209_600.0
    minimum_rate_kbit_s: Annotated[float, ranges.LINE_RATE] = DEFAULT_RATE_KBIT_S
    bundle_for_coordinator: Annotated[bool, Field(strict=True)] = False

    @field_validator("class_names", mode="before")
    @classmethod
    def _several_classes(cls, names: object) -> object:
        if isinstance(names, list | tuple):  # before the limit of the message says it in other words
            check_not_alone(names)
        return names

    @field_validator("class_names")
    @classmethod
    def _classes_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_classes(names)
        return names

    @field_validator("domains")
    @classmethod
    def _domains_can_be_shown(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_printable(names, "domain")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_rounds(self)
        _check_method(self)
        return self

    def initial_model(self) -> Vector:
        """Return the parameters of the first round, which everybody can compute."""
        start = self.initial_context
        words = None if start is None else start.embeddings(self.text_width)
        return initial_parameters(self.shape, self.initial_seed, words)

    @property
    def model_hash(self) -> str:
        """SHA-256 (hex) over all that the model's features follow from, weights included."""
        return self.model_identity.hash_with(self.weight_hash)

    @property
    def supervision(self) -> str:
        """What training is guided by, in a few words."""
        if self.unsupervised is None:
            return LABELS
        return self.unsupervised.said(self.rounds, private=self.differential_privacy)

    @property
    def round_said(self) -> str:
        """What an institution does in a round, in a few words."""
        return steps_said(self.local_steps, self.batch_size, self.local_epochs)

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


def _check_rounds(plan: SessionPlan) -> None:
    """Refuse a scheme that cannot do what the plan asks of it, and too many steps."""
    registry.check_participation(plan.secure_aggregation, plan.participation)
    if plan.batch_size is not None and plan.differential_privacy:
        raise ValueError(f"batch_size cannot be under differential privacy: {WHY_BATCHES_ARE_NOT_PRIVATE}")
    if plan.batch_size is None and plan.local_epochs != 1:
        raise ValueError("local_epochs are passes in batches: give batch_size as well")
    if plan.rounds * plan.local_steps > ranges.MAX_STEPS:
        raise ValueError(f"rounds x local_steps must not exceed {ranges.number(ranges.MAX_STEPS)}")


def _check_method(plan: SessionPlan) -> None:
    """Refuse a method that cannot be trained as the plan says."""
    try:
        facts = method_facts(plan.method)
    except InvalidInput as error:
        raise ValueError(str(error)) from None
    if plan.differential_privacy and facts.never_private is not None:
        raise ValueError(
            f"the method {plan.method} cannot be trained under differential privacy: {facts.never_private}"
        )
    if facts.class_specific not in (None, plan.class_specific):
        raise ValueError(f"the method {plan.method} needs class_specific: {facts.class_specific}")
    if facts.federated and plan.shape.size < 1:
        raise ValueError(f"the method {plan.method} needs tower_values: the size of the image tower")
    if plan.prior_weight and not facts.keeps_prior:
        raise ValueError(f"the method {plan.method} knows no prior_weight: leave it out")
    if not facts.uses_keys and KeyUse(plan.key_fusion, plan.key_values) != AS_IN_THE_PAPER:
        raise ValueError(f"the method {plan.method} uses no keys: leave out key_fusion and key_values")
    _check_unsupervised(plan, facts)
    _check_initial_context(plan, facts)


def _check_unsupervised(plan: SessionPlan, facts: MethodFacts) -> None:
    if plan.unsupervised is None:
        return
    if facts.never_unsupervised is not None:
        raise ValueError(
            f"the method {plan.method} cannot be trained without labels: {facts.never_unsupervised}"
        )
    if plan.unsupervised.consistency_rounds and plan.differential_privacy:
        raise ValueError(f"consistency_rounds must be 0 under differential privacy: {WHY_NOT_PRIVATE}")
    if plan.unsupervised.pseudo_label_mean == "sure" and plan.differential_privacy:
        raise ValueError(
            f"pseudo_label_mean must be batch under differential privacy: {WHY_SURE_IS_NOT_PRIVATE}"
        )
    if plan.unsupervised.transductive and plan.differential_privacy:
        raise ValueError("transductive cannot be under differential privacy: its images are held out of it")
    if plan.unsupervised.consistency_rounds > plan.rounds:
        raise ValueError("there are more consistency_rounds than rounds")


def _check_initial_context(plan: SessionPlan, facts: MethodFacts) -> None:
    if plan.initial_context is None:
        return
    if not facts.learns_context:
        raise ValueError(f"the method {plan.method} learns no context that could start from words")
    try:
        count = len(plan.initial_context.embeddings(plan.text_width))
    except InvalidInput as error:
        raise ValueError(str(error)) from None
    if count > plan.context_tokens:
        raise ValueError(
            f"initial_context has {count} tokens and context_tokens is {plan.context_tokens}: raise it"
        )
