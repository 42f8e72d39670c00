"""Records without labels, first stage of FedAPT: the untuned CLIP names those of which it is sure.

Cross-entropy of an augmented view towards what zero-shot CLIP says of the plain one, where its probability
exceeds a threshold, and the domain loss of all. Others only teach the domain.

Under differential privacy. A record's pseudo-label follows from that record and a public, frozen model
alone, never from other records or from what was trained; so does its augmented view. So one record moves one
row of the batch, its clipped gradient, as with labels, and the guarantee for a record (or a person's
records, clipped together) is the same. That a record is unsure must not show either: sums are divided by
q·N̂ and not by how many are sure. The reference code's mean over the sure is there without privacy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.batches.examples import NO_LABEL, Examples, Model
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.data.reading.augmentation import Views
from fedapt_secure.learning.methods.base import TrainingData, cosine_logits

ROWS_AT_ONCE: Final = 4096


@torch.no_grad()
def pseudo_labels(
    backbone: Backbone, class_names: Sequence[str], template: str, features: Tensor, confidence: float
) -> Tensor:
    """Return what zero-shot CLIP says, where it is sure.

    Args:
        backbone: The frozen CLIP.
        class_names: M names.
        template: Hand-written prompt.
        features: Image features of plain views, (N, D).
        confidence: What the probability of its answer must exceed.

    Returns:
        Class indices, int64, (N,); `NO_LABEL` where it is not sure.
    """
    text_features = zero_shot_text(backbone, class_names, template)
    found = torch.full((len(features),), NO_LABEL, dtype=torch.int64)
    for rows in torch.split(torch.arange(len(features)), ROWS_AT_ONCE):
        probabilities = cosine_logits(backbone, features[rows], text_features).softmax(dim=1)
        highest, answers = (values.cpu() for values in probabilities.max(dim=1))
        found[rows] = answers.where(highest > confidence, NO_LABEL)
    return found


@dataclass(frozen=True)
class PseudoLabelled(TrainingData):
    """Records whose labels are pseudo-labels, seen in augmented views.

    Attributes:
        views: The augmented views.
        classes: M, where the class loss is a mean over the records that are sure and not over the batch, as
            in the reference code; ``None`` for the batch.
    """

    views: Views = field(kw_only=True)
    classes: int | None = field(kw_only=True, default=None)

    @property
    def couples_records(self) -> bool:
        """Where how many others are sure decides on a record's weight."""
        return self.classes is not None

    def examples(self, batch: Tensor, model: Model) -> Examples:
        """Return one row a record: its next view and its pseudo-label. The present model decides nothing."""
        del model
        labels = self.labels[batch]
        if self.classes is None:
            return Examples(self.views.take(batch), labels)
        sure = labels != NO_LABEL
        weights = F.one_hot(labels.clamp(min=0), self.classes).float() * sure.unsqueeze(1)
        weights *= len(labels) / max(1, int(sure.sum()))  # the step divides by the batch
        return Examples(self.views.take(batch), weights)
