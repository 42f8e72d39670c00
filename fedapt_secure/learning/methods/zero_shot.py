"""Zero-shot: CLIP as it is, with hand-written prompts (Radford et al. 2021, section 3.1)."""

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.methods.base import (
    Classifier,
    ClassifierParts,
    FixedText,
    Method,
    Objective,
    Task,
    TrainingData,
)


class ZeroShot(Method):
    """Classes are told apart by one hand-written prompt, or by the mean over an ensemble of them."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Raise `InvalidInput`: there is nothing to train."""
        raise InvalidInput("zero-shot trains nothing")

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the untuned model."""
        return FixedText(parts, zero_shot_text(parts.backbone, parts.class_names, parts.template))
