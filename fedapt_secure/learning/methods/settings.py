"""How an institution trains between two rounds: figures that are public, and checked in one place."""

from dataclasses import dataclass
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.gradient_units import TEXT_FEATURES, GradientUnits
from fedapt_secure.config.learning_rate import CONSTANT, LearningRateSchedule, rate_share
from fedapt_secure.learning.privacy.mechanism import Mechanism

DEFAULT_LOCAL_STEPS: Final = 4
DEFAULT_SAMPLE_RATE: Final = 0.5
DEFAULT_LEARNING_RATE: Final = 0.5
DEFAULT_MOMENTUM: Final = 0.9
DEFAULT_MAX_GRAD_NORM: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How an institution trains; all of it is public.

    Attributes:
        declared_records: N̂, the public record count; sums of gradients are divided by q·N̂.
        private: Whether gradients are clipped and noise is added.
        noise_multiplier: σ; required where ``private``, absent otherwise.
        rounds: Of the whole session; how far it is decides on the learning rate's share.
        local_steps: Steps between two rounds.
        sample_rate: q of Poisson sampling, in (0, 1].
        batch_size: Records of a step, from passes over the shuffled records, in place of Poisson samples; a
            gradient is a mean over them. ``None`` under privacy, whose accounting is of Poisson samples.
        learning_rate: Step size, for the gradient in ``gradient_units``.
        learning_rate_schedule: How it goes over the session's steps.
        gradient_units: Whether prompts, probes and contexts step by the gradient of the loss over the logit
            scale, or of the loss itself; after clipping and noise, so it costs no privacy.
        momentum: Of SGD, in [0, 1); starts anew each round.
        max_grad_norm: C, bound on one record's gradient.
        loss_temperature: τ of the class loss τ·CE(logits / τ). Above 1 a record's gradient stays about as
            large and as aligned with its class' others as at the start, so that more of a sum is signal.
        domain_loss_weight: λ of the routing loss where gradients are clipped: the two gradients of a record
            share C, and the adaptive network, which learns quickly, needs little of it. Its noisy gradient
            is divided by λ again, so λ changes no step size, and without clipping nothing.
        weight_decay: L2 penalty on the parameters.
        proximal_weight: μ of FedProx (Li et al. 2020, section 3.2): pulls towards the round's start.
    """

    declared_records: int
    private: bool = True
    noise_multiplier: float | None = None
    rounds: int = 1
    local_steps: int = DEFAULT_LOCAL_STEPS
    sample_rate: float = DEFAULT_SAMPLE_RATE
    batch_size: int | None = None
    learning_rate: float = DEFAULT_LEARNING_RATE
    learning_rate_schedule: LearningRateSchedule = CONSTANT
    gradient_units: GradientUnits = TEXT_FEATURES
    momentum: float = DEFAULT_MOMENTUM
    max_grad_norm: float = DEFAULT_MAX_GRAD_NORM
    loss_temperature: float = 1.0
    domain_loss_weight: float = 1.0
    weight_decay: float = 0.0
    proximal_weight: float = 0.0

    def __post_init__(self) -> None:
        sigma = self.noise_multiplier
        checks = {
            "the declared record count must be at least 1": self.declared_records >= 1,
            "private training needs a positive noise multiplier": not self.private or (sigma or 0.0) > 0,
            "training without privacy takes no noise multiplier": self.private or sigma is None,
            "at least one round is needed": self.rounds >= 1,
            "at least one local step is needed": self.local_steps >= 1,
            "the sample rate must lie in (0, 1]": 0 < self.sample_rate <= 1,
            "a batch must hold at least one record": self.batch_size is None or self.batch_size >= 1,
            "private training takes no batch size": not self.private or self.batch_size is None,
            "the learning rate must be a positive number": 0 < self.learning_rate < float("inf"),
            "the momentum must lie in [0, 1)": 0 <= self.momentum < 1,
            "the clipping norm must be a positive number": 0 < self.max_grad_norm < float("inf"),
            "the temperature of the loss must be a positive number": 0 < self.loss_temperature < float("inf"),
            "the weight of the routing loss must be a positive number": 0
            < self.domain_loss_weight
            < float("inf"),
            "the weight decay must not be negative": 0 <= self.weight_decay < float("inf"),
            "the proximal weight must not be negative": 0 <= self.proximal_weight < float("inf"),
        }
        for rule, holds in checks.items():
            if not holds:
                raise InvalidInput(rule)

    def rate(self, round_number: int, step: int) -> float:
        """Return the learning rate of one step.

        Args:
            round_number: From 1.
            step: Which of the round's steps, from 0.
        """
        at, steps = (round_number - 1) * self.local_steps + step, self.rounds * self.local_steps
        return self.learning_rate * rate_share(self.learning_rate_schedule, at, steps)

    @property
    def mechanism(self) -> Mechanism | None:
        """Clipping and noise of a step; ``None`` without privacy."""
        if self.noise_multiplier is None:
            return None
        return Mechanism(self.noise_multiplier, self.max_grad_norm)
