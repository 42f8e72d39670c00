"""What ``simulate`` fills in of a session without labels: the paper's values, fitted to the data set."""

from typing import Final

from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.config.unsupervised import AUGMENTATIONS, Augmentation
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.data.dealing import DIGITS
from fedapt_secure.protocol.initial_context import PAPER_WORDS, InitialContext
from fedapt_secure.protocol.methods import FEDCLIP, LINEAR_PROBE, method_facts
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.unsupervised import (
    DEFAULT_CONFIDENCE,
    DEFAULT_CONSISTENCY_LOSS,
    DEFAULT_CONSISTENCY_ROUNDS,
    DEFAULT_VIEWS,
    UnsupervisedPlan,
)

RANDOM: Final = "random"
"""What ``initial_context`` says for no words."""
DIGIT_AUGMENTATIONS: Final[tuple[Augmentation, ...]] = tuple(one for one in AUGMENTATIONS if one != "flip")
"""A mirrored 2 is none, and a mirrored 5 looks like a 2."""


CONTEXT_LEARNING_RATE: Final = 0.1
"""For learned contexts: pseudo-labels are often wrong, and larger steps learn their mistakes."""
_LEARNING_RATES: Final = {LINEAR_PROBE: 0.3, FEDCLIP: 1.0}
"""Of the other methods."""


def unsupervised_learning_rate(settings: SimulateSettings) -> float | None:
    """Return the learning rate without labels where none is chosen; ``None`` with labels."""
    if not settings.unsupervised:
        return None
    return _LEARNING_RATES.get(settings.method, CONTEXT_LEARNING_RATE)


def unsupervised_plan(settings: SimulateSettings) -> UnsupervisedPlan | None:
    """Return how to train without labels, every value resolved; ``None`` with labels."""
    if not settings.unsupervised:
        return None
    default_rounds = 0 if not settings.no_dp else min(DEFAULT_CONSISTENCY_ROUNDS, settings.rounds - 1)
    given = settings.consistency_rounds
    usual = DIGIT_AUGMENTATIONS if settings.dataset in DIGITS else AUGMENTATIONS
    return UnsupervisedPlan(
        confidence=_or(settings.pseudo_label_confidence, DEFAULT_CONFIDENCE),
        consistency_rounds=default_rounds if given is None else given,
        augmentations=settings.augmentations or usual,
        views=settings.augmented_views or DEFAULT_VIEWS,
        consistency_loss=settings.consistency_loss or DEFAULT_CONSISTENCY_LOSS,
        pseudo_label_mean=settings.pseudo_label_mean or "batch",
        transductive=settings.transductive,
    )


def start_of_contexts(settings: SimulateSettings, backbone: Backbone) -> InitialContext | None:
    """Return the words that contexts start from: those asked for, else the paper's without labels.

    Raises:
        InvalidInput: If they are no words to start from.
    """
    words = settings.initial_context
    if words is None and settings.unsupervised and method_facts(settings.method).learns_context:
        words = PAPER_WORDS
    return None if words in (None, RANDOM) else initial_context(backbone, words)


def resolved(plan: SessionPlan) -> dict[str, object]:
    """Return what a plan came to, as options of ``simulate``."""
    how, start = plan.unsupervised, plan.initial_context
    found: dict[str, object] = {"initial_context": RANDOM if start is None else start.words}
    if how is None:
        return found
    return found | {
        "pseudo_label_confidence": how.confidence,
        "consistency_rounds": how.consistency_rounds,
        "augmentations": how.augmentations,
        "augmented_views": how.views,
        "consistency_loss": how.consistency_loss,
        "pseudo_label_mean": how.pseudo_label_mean,
    }


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
