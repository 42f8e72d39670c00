"""How ``simulate`` trains where it is not told.

One recipe was found for all budgets, and for none, by a search on the embedded digits (docs/tuning.md): what
follows from ε is the noise and the prior weight, both from public figures. Without labels targets are often
wrong, so that larger steps learn mistakes; there, and for whole image towers, papers' own values stay.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

from fedapt_secure.config.learning_rate import CONSTANT, LINEAR, LearningRateSchedule
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.simulate.setup.unsupervised import unsupervised_learning_rate


@dataclass(frozen=True)
class Recipe:
    """Values of the options that follow from method and privacy.

    Attributes:
        learning_rate: η, at the first step.
        learning_rate_schedule: How it goes on.
        momentum: Within a round.
        max_grad_norm: C.
        loss_temperature: τ of the class loss.
        domain_loss_weight: λ of the routing loss.
    """

    learning_rate: float
    learning_rate_schedule: LearningRateSchedule
    momentum: float
    max_grad_norm: float
    loss_temperature: float
    domain_loss_weight: float


_SEARCHED: Final = Recipe(
    learning_rate=3.0,
    learning_rate_schedule=LINEAR,
    momentum=0.0,
    max_grad_norm=0.5,
    loss_temperature=4.0,
    domain_loss_weight=0.3,
)
_AS_IN_PAPERS: Final = Recipe(
    learning_rate=0.5,
    learning_rate_schedule=CONSTANT,
    momentum=0.9,
    max_grad_norm=1.0,
    loss_temperature=1.0,
    domain_loss_weight=1.0,
)


def recipe_of(settings: SimulateSettings) -> Recipe:
    """Return how a run trains: what was asked for, and else what suits its method."""
    facts = method_facts(settings.method)
    usual = _AS_IN_PAPERS if settings.unsupervised or facts.never_private else _SEARCHED
    rate = unsupervised_learning_rate(settings) or facts.learning_rate
    given = {field.name: getattr(settings, field.name) for field in fields(Recipe)}
    return replace(
        replace(usual, learning_rate=rate),
        **{name: value for name, value in given.items() if value is not None},
    )
