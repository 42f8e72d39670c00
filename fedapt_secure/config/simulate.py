"""The settings of ``fedapt-secure simulate``: every option, with its default and its bounds."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import Participation
from fedapt_secure.config import ranges
from fedapt_secure.config.gradient_units import TEXT_FEATURES, GradientUnits
from fedapt_secure.config.key_use import MULTIPLY, UNIFORM, KeyFusion, KeyValues
from fedapt_secure.config.learning_rate import LearningRateSchedule
from fedapt_secure.config.model_identity import Activation
from fedapt_secure.config.paper_choices import OVER_CLASSES, WHY_BATCHES_ARE_NOT_PRIVATE, DirichletOver
from fedapt_secure.config.reading import LAST_AXIS, MIDDLE, ReadingOptions, Subjects, Window, option_of
from fedapt_secure.config.settings import SessionDelta, Settings
from fedapt_secure.config.unsupervised import (
    WHY_NOT_PRIVATE,
    WHY_SURE_IS_NOT_PRIVATE,
    Augmentation,
    ConsistencyLoss,
    PseudoLabelMean,
    check_augmentations,
)

ShortText = Annotated[str, Field(min_length=1, max_length=256)]

DEFAULT_EPSILON = 8.0
ALL_DOMAINS: Final = "all"
"""As ``unseen_domain``: each domain in turn."""
KEY_EACH: Final = "per-institution"
AUTO: Final = "auto"
"""A prior weight that follows from public figures."""
LOCAL: Final = "local"
RAY: Final = "ray"


NEVER_PRIVATE: Final = (
    "batch_size",
    "local_epochs",
    "test_share",
    "consistency_rounds",
    "pseudo_label_mean",
    "transductive",
)
"""Options that exist without differential privacy alone."""


class SimulateSettings(Settings):
    """What one simulation does; field names are option names. Numbers lie in `ranges`, with reasons.

    Attributes:
        dp_epsilon: ε for each institution over the whole run; ``None`` means 8 unless ``no_dp``.
        dp_delta: δ; ``None`` means 1 / (2 x declared records) of each institution.
        ledger: Folder of lasting ledgers, one an institution; ``None`` means that each run counts alone.
        max_epsilon: With ``ledger``: ε for the images of each institution over all runs, δ in proportion;
            ``None`` means this run's, so that a second one on the same images is refused.
        cache: Folder of lasting features, one folder an institution in it; ``None`` means the run folder.
        no_dp: Train without differential privacy: for experiments only.
        insecure_deterministic_noise: Let ``seed`` decide noise and sampling under differential privacy as
            well; the run is marked as not private wherever ε is shown.
        clients: Number of institutions; ``None`` means one a domain (5 for the digits). To more than 20 the
            digits are not dealt: each institution draws its own from all of them, and the run is marked as
            synthetic.
        institutions_per_domain: Number of institutions of each domain, in place of ``clients``.
        unsupervised: Train without looking at labels, which serve tests alone; see docs/unsupervised.md.
        pseudo_label_confidence: From which probability on an answer of the untuned model counts
            (``None``: 0.75).
        consistency_rounds: How many of the last rounds look at neighbours; ``None`` means 4, and 0 under
            differential privacy, which allows none.
        augmentations: ``flip``, ``jitter``, ``greyscale``, ``blur``, separated by commas; ``None`` means all,
            for the digits all but ``flip``.
        augmented_views: Augmented views of each image that are encoded (``None``: 4).
        consistency_loss: ``plain`` or ``reference``, see `UnsupervisedPlan`; ``None`` means plain.
        pseudo_label_mean: ``batch``, or without privacy ``sure``, see `UnsupervisedPlan`.
        transductive: With ``unsupervised`` and without privacy: train on the images that are held out.
        initial_context: Words that contexts start from, or ``random``; ``None`` means ``a photo of a`` where
            ``unsupervised``, else ``random``.
        method: What is trained; see `fedapt_secure.protocol.methods`.
        temperature: τ of the softmax that routes images to domain keys.
        keys: K, the number of domain keys, or ``per-institution``; ``None`` means one a domain. See
            `fedapt_secure.protocol.key_assignment`; without effect on methods without keys.
        key_fusion, key_values: What keys do to the meta prompt, see `KeyUse`; the same.
        weight_decay, proximal_weight: L2 penalty; μ of FedProx (``None``: 0.01 for fedprox, else 0).
        rounds, local_steps, sample_rate: Training plan.
        batch_size, local_epochs: Without privacy: passes in batches in place of Poisson samples, see
            `SessionPlan`.
        momentum, max_grad_norm, learning_rate_schedule, loss_temperature, domain_loss_weight: The same, see
            `TrainingSettings`; ``None`` means what suits method and privacy, see `simulate.setup.recipe`.
        prior_weight: w, how much of the untuned model the finished one keeps; ``auto`` for what follows from
            budget, records and classes, and 0 without differential privacy.
        gradient_units: ``text-features``, or ``loss`` for learning rates as papers state them.
        learning_rate: Step size, with a schedule the first; ``None`` means the method's own, see
            `MethodFacts.learning_rate`, and 0.1 for contexts that are learned without labels.
        context_tokens, shared_context: Size of the meta prompt; one context for all classes or one each.
        secure_aggregation: ``masking``; ``ckks`` for consortia that trust each other and not the host; or
            ``none`` for comparisons.
        participation: Who takes part in a round: ``all``, or ``one-per-domain`` by a public rule.
        update_clip: Largest absolute parameter change that the fixed-point encoding represents.
        model, pretrained: Any open_clip model; ``tiny`` ships with the package.
        activation: Of the model, for a checkpoint file of which nobody knows it; see `load_backbone`.
        dataset: ``digits``, ``digits-flipped``, or with ``data_root`` ``folder`` (``domain/class/image`` or
            a manifest), ``domainnet``, ``office-caltech10``, ``pacs``, ``officehome`` or ``office31``.
        data_root: The data set's folder; for ``folder`` also a CSV manifest.
        domains, classes: Which of the data set's, separated by commas; empty means all.
        unseen_domain: The domain that takes no part, and on whose images the finished model is evaluated; or
            ``all``: one run for each domain.
        subjects: ``dicom``: the PatientID of DICOM files says whose an image is; a manifest does without.
        window, frame, axis, slice: How DICOM and NIfTI files are read; see `reading.ReadingOptions`.
        max_unused: The largest share of the data set's files that may be of no use.
        dirichlet: α of a Dirichlet distribution: classes are skewed among the institutions of a domain.
        dirichlet_over: ``classes``, or ``clients`` as papers' scripts do; see `learning.data.partition`.
        test_share: Share of each class of a domain that is held out, drawn by ``seed``, without privacy;
            ``None`` means as the data set says, else a quarter by the images' hashes.
        few_shot: Training images a class that each institution keeps; for runs without privacy.
        template: Prompt of zero-shot CLIP with one ``{}``, or the ensemble ``imagenet`` or ``imagenet-7``;
            ``None`` means the data set's own.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: What the frozen towers compute in: ``float32``, ``bfloat16``, or ``auto``, which is
            bfloat16 on a GPU that has it, but for the tiny model.
        seed: Which images go where, and the initialisation. Never the privacy noise, unless
            ``insecure_deterministic_noise`` asks for just that.
        out: The run folder; ``None`` means ``runs/<UTC time>-seed<seed>``.
        engine: ``local``, on this machine; or ``ray``, each institution as an actor (docs/ray.md).
        processes: One operating-system process a party; with the engine ``local``.
        ray_address: An existing Ray cluster, ``HOST:PORT`` or ``auto``; ``None`` starts one on this machine.
        client_cpus: Processors that Ray keeps for each institution; ``None`` means an equal share, at most 1.
        client_gpus: GPUs of each, or a share of one; without, institutions compute on processors.
        fail: ``NAME@ROUND:PHASE`` entries: that institution vanishes on entering the phase.
    """

    dp_epsilon: Annotated[float, ranges.EPSILON] | None = None
    dp_delta: SessionDelta | None = None
    ledger: Path | None = None
    max_epsilon: Annotated[float, ranges.EPSILON] | None = None
    no_dp: bool = False
    insecure_deterministic_noise: bool = False
    clients: Annotated[int, ranges.INSTITUTIONS] | None = None
    institutions_per_domain: Annotated[int, ranges.INSTITUTIONS] | None = None
    unsupervised: bool = False
    pseudo_label_confidence: Annotated[float, ranges.CONFIDENCE] | None = None
    consistency_rounds: Annotated[int, ranges.CONSISTENCY_ROUNDS] | None = None
    augmentations: tuple[Augmentation, ...] | None = None
    augmented_views: Annotated[int, ranges.VIEWS] | None = None
    consistency_loss: ConsistencyLoss | None = None
    pseudo_label_mean: PseudoLabelMean | None = None
    transductive: bool = False
    initial_context: ShortText | None = None
    method: str = "fedapt"
    rounds: Annotated[int, ranges.ROUNDS] = 30
    local_steps: Annotated[int, ranges.LOCAL_STEPS] = 4
    sample_rate: Annotated[float, ranges.SAMPLE_RATE] = 0.5
    batch_size: Annotated[int, ranges.BATCH_SIZE] | None = None
    local_epochs: Annotated[int, ranges.LOCAL_EPOCHS] = 1
    learning_rate: Annotated[float, ranges.LEARNING_RATE] | None = None
    learning_rate_schedule: LearningRateSchedule | None = None
    gradient_units: GradientUnits = TEXT_FEATURES
    momentum: Annotated[float, ranges.MOMENTUM] | None = None
    weight_decay: Annotated[float, ranges.WEIGHT_DECAY] = 0.0
    proximal_weight: Annotated[float, ranges.PROXIMAL_WEIGHT] | None = None
    max_grad_norm: Annotated[float, ranges.MAX_GRAD_NORM] | None = None
    loss_temperature: Annotated[float, ranges.LOSS_TEMPERATURE] | None = None
    domain_loss_weight: Annotated[float, ranges.LOSS_WEIGHT] | None = None
    prior_weight: Annotated[float, ranges.PRIOR_WEIGHT] | Literal["auto"] = AUTO
    temperature: Annotated[float, ranges.TEMPERATURE] = 0.01
    keys: Annotated[int, ranges.KEYS] | Literal["per-institution"] | None = None
    key_fusion: KeyFusion = MULTIPLY
    key_values: KeyValues = UNIFORM
    context_tokens: Annotated[int, ranges.CONTEXT_TOKENS] = 16
    shared_context: bool = False
    secure_aggregation: Literal["masking", "ckks", "none"] = "masking"
    participation: Participation = "all"
    update_clip: Annotated[float, ranges.UPDATE_CLIP] = 16.0
    model: str = "tiny"
    pretrained: str | None = None
    activation: Activation | None = None
    dataset: Literal[
        "digits",
        "digits-flipped",
        "folder",
        "domainnet",
        "office-caltech10",
        "pacs",
        "officehome",
        "office31",
    ] = "digits"
    data_root: Path | None = None
    domains: tuple[ShortText, ...] = ()
    classes: tuple[ShortText, ...] = ()
    unseen_domain: ShortText | None = None
    subjects: Subjects | None = None
    window: Window | None = Field(default=None, description="CENTER,WIDTH")
    frame: Annotated[int, ranges.FRAME] | Literal["middle", "all"] = MIDDLE
    axis: Annotated[int, ranges.AXIS] = LAST_AXIS
    slice: Annotated[int, ranges.SLICE] | Literal["middle"] = MIDDLE
    max_unused: Annotated[float, ranges.UNUSED_SHARE] = 0.2
    dirichlet: Annotated[float, ranges.DIRICHLET] | None = None
    dirichlet_over: DirichletOver = OVER_CLASSES
    test_share: Annotated[float, ranges.TEST_SHARE] | None = None
    few_shot: Annotated[int, ranges.FEW_SHOT] | None = None
    template: ShortText | None = None
    cache: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: Annotated[int, ranges.SEED] = 0
    out: Path | None = None
    engine: Literal["local", "ray"] = LOCAL
    processes: bool = False
    ray_address: Annotated[str, Field(pattern=r"^(auto|[^\s/]+:\d{1,5})$")] | None = Field(
        default=None, description="auto or HOST:PORT of a running cluster, or leave it out to start Ray here"
    )
    client_cpus: Annotated[float, ranges.PROCESSORS] | None = None
    client_gpus: Annotated[float, ranges.GPUS] = 0.0
    fail: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.no_dp and (self.dp_epsilon is not None or self.dp_delta is not None):
            raise ValueError("no_dp and dp_epsilon (or dp_delta) exclude each other: give one")
        if self.no_dp and self.insecure_deterministic_noise:
            raise ValueError("no_dp has no noise that insecure_deterministic_noise could make repeatable")
        if self.ledger is not None and self.not_private is not None:
            raise ValueError(f"a lasting ledger counts privacy, and there is none here: {self.not_private}")
        if self.max_epsilon is not None and self.ledger is None:
            raise ValueError("max_epsilon goes with a lasting ledger: give ledger as well")
        if self.max_epsilon is not None and self.max_epsilon < (self.epsilon or 0.0):
            raise ValueError("max_epsilon, for all runs, is below this run's dp_epsilon")
        registry.check_participation(self.secure_aggregation, self.participation)
        least = registry.MIN_INSTITUTIONS[self.secure_aggregation]
        most = registry.MAX_INSTITUTIONS[self.secure_aggregation]
        if self.clients is not None and not least <= self.clients <= most:
            raise ValueError(
                f"secure aggregation {self.secure_aggregation!r} works with {least} to {most} institutions,"
                f" not {self.clients}"
            )
        if self.rounds * self.local_steps > ranges.MAX_STEPS:
            raise ValueError(f"rounds x local_steps must not exceed {ranges.number(ranges.MAX_STEPS)}")
        self._check_data()
        self._check_unsupervised()
        self._check_engine()
        return self

    def _check_engine(self) -> None:
        if self.engine == RAY and self.processes:
            raise ValueError("with the engine ray each institution has a process anyway: leave out processes")
        if self.engine == RAY and self.device == "cuda" and not self.client_gpus:
            raise ValueError("device cuda with the engine ray needs client_gpus: how much of a GPU each gets")
        if self.engine == RAY:
            return
        for name in ("ray_address", "client_cpus", "client_gpus"):
            if getattr(self, name):
                raise ValueError(f"{name} is for Ray: give engine ray as well")

    def _check_unsupervised(self) -> None:
        alone = (
            "pseudo_label_confidence",
            "consistency_rounds",
            "augmentations",
            "augmented_views",
            "consistency_loss",
            "pseudo_label_mean",
            "transductive",
        )
        for name in alone if not self.unsupervised else ():
            if getattr(self, name) not in (None, False):
                raise ValueError(f"{name} is for training without labels: give unsupervised as well")
        if self.augmentations is not None:
            check_augmentations(self.augmentations)
        if self.unsupervised and self.few_shot is not None:
            raise ValueError(
                "few_shot chooses images by their labels, and unsupervised does not look at labels"
            )
        if self.pseudo_label_mean == "sure" and not self.no_dp:
            raise ValueError(
                f"pseudo_label_mean must be batch under differential privacy: {WHY_SURE_IS_NOT_PRIVATE}."
                " Leave it out, or give no_dp"
            )
        if self.transductive and not self.no_dp:
            raise ValueError("transductive trains on the images held out, and is for runs with no_dp alone")
        if not self.unsupervised or not self.consistency_rounds:
            return
        if not self.no_dp:
            raise ValueError(
                f"consistency_rounds must be 0 under differential privacy: {WHY_NOT_PRIVATE}. Leave it"
                " out, or give no_dp"
            )
        if self.consistency_rounds > self.rounds:
            raise ValueError(f"consistency_rounds are some of the {self.rounds} rounds, not more")

    @field_validator("keys", mode="before")
    @classmethod
    def _count_or_each(cls, value: object) -> object:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if type(value) is int:
            ranges.KEYS.check(value)
        if value is None or value == KEY_EACH or type(value) is int:
            return value
        raise ValueError(f"give a number from 1, or {KEY_EACH}")

    @field_validator("prior_weight", mode="before")
    @classmethod
    def _weight_or_auto(cls, value: object) -> object:
        if isinstance(value, str) and value != AUTO:
            try:
                return float(value)
            except ValueError:
                raise ValueError(f"give a number from 0 to 1, or {AUTO}") from None
        return value

    @field_validator("window", "frame", "slice", mode="before")
    @classmethod
    def _reading_option(cls, value: object, info: ValidationInfo) -> object:
        return option_of(str(info.field_name), value)

    @field_validator("domains", "classes", "augmentations", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name for one in value.split(",") if (name := one.strip()))
        return value

    def _check_data(self) -> None:
        own = self.dataset.startswith("digits")
        if not own and self.data_root is None:
            raise ValueError(f"dataset {self.dataset!r} needs data_root: the folder that holds it")
        if own and self.data_root is not None:
            raise ValueError("data_root goes with dataset 'folder', 'pacs' and the like, not with the digits")
        if own and self.classes:
            raise ValueError("classes are chosen among those of a folder, and the digits are ten: leave out")
        if own and self.subjects is not None:
            raise ValueError("subjects are for DICOM files, and the digits are none")
        if self.clients is not None and self.institutions_per_domain is not None:
            raise ValueError("clients and institutions_per_domain exclude each other: give one")
        if self.batch_size is not None and not self.no_dp:
            raise ValueError(
                f"batch_size cannot be under differential privacy: {WHY_BATCHES_ARE_NOT_PRIVATE}. Give"
                " sample_rate, or no_dp"
            )
        if self.batch_size is None and self.local_epochs != 1:
            raise ValueError("local_epochs are passes in batches: give batch_size as well")
        if self.dirichlet_over != OVER_CLASSES and self.dirichlet is None:
            raise ValueError("dirichlet_over says what dirichlet divides: give dirichlet as well")
        if self.test_share is not None and own:
            raise ValueError("test_share is for images of a folder, and the digits have a split of their own")
        if self.test_share is not None and not self.no_dp:
            raise ValueError(
                "test_share draws among the images of a class, so that one image decides on another: the"
                " privacy guarantee does not cover that. Give no_dp as well, or a manifest (docs/data.md)"
            )
        if self.few_shot is not None and not self.no_dp:
            raise ValueError(
                "few_shot compares images with each other, so that one image decides on another: the privacy"
                " guarantee does not cover that. Give no_dp as well, or make the choice beforehand and give"
                " it as a manifest (docs/data.md)"
            )

    @property
    def reading(self) -> ReadingOptions:
        """How DICOM and NIfTI files are read."""
        return ReadingOptions(window=self.window, frame=self.frame, axis=self.axis, slice=self.slice)

    @property
    def not_private(self) -> str | None:
        """Why nothing is private in this run, or ``None`` where it is."""
        if self.no_dp:
            return "no differential privacy was asked for (no_dp)"
        if self.insecure_deterministic_noise:
            return (
                "the noise follows from the seed (insecure_deterministic_noise): who knows it can remove it"
            )
        return None

    @property
    def institution_device(self) -> str:
        """Where institutions compute: with Ray and without a GPU of their own, on processors."""
        return "cpu" if self.engine == RAY and not self.client_gpus else self.device

    @property
    def epsilon(self) -> float | None:
        """ε for each institution, ``None`` without differential privacy."""
        return None if self.no_dp else (self.dp_epsilon or DEFAULT_EPSILON)
