"""What one step learns from: views of records, and where their classes should go.

Labelled records, pseudo-labels and the consistency of unlabelled images all come down to rows of this kind,
so a method knows one loss and no setting. R rows, M classes, K domains, D joint embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.clip.device import sent

NO_LABEL: Final = -100
"""In place of a class index where a row says nothing about its class; what `F.cross_entropy` passes over."""

Model = Callable[[Tensor], Tensor]
"""Gives the class logits (B, M), without a gradient, that the present parameters give features (B, D)."""


@dataclass(frozen=True)
class Examples:
    """Rows to learn from. With labels, and wherever a step is private, row and record are one to one.

    Attributes:
        features: What is seen, (R, D), not normalised.
        targets: Class indices, int64, (R,), `NO_LABEL` for none; or class weights, float, (R, M), whose
            cross-entropy counts. A row of zeros is none.
        repulsion: Cost of each class' probability, (R, M): a row adds its probabilities times these. Negative
            values attract. ``None`` for no cost.
        tells_domain: Which rows teach the domain, bool, (R,); ``None`` for all.
    """

    features: Tensor
    targets: Tensor
    repulsion: Tensor | None = None
    tells_domain: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def class_loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the class losses of some rows, added up.

        Args:
            logits: Class logits of these rows, (B, M).
            rows: Which, (B,).
        """
        total = F.cross_entropy(logits, self._placed(self.targets, logits, rows), reduction="sum")
        if self.repulsion is None:
            return total
        return total + (logits.softmax(dim=1) * self._placed(self.repulsion, logits, rows)).sum()

    def domain_loss(self, logits: Tensor, rows: Tensor, domain_index: int) -> Tensor:
        """Return the cross-entropies towards the institution's domain of some rows, added up.

        Args:
            logits: Domain logits of these rows, (B, K).
            rows: Which, (B,).
            domain_index: The domain.
        """
        domains = torch.full((len(rows),), domain_index, dtype=torch.int64, device=logits.device)
        if self.tells_domain is not None:
            domains = domains.where(self._placed(self.tells_domain, logits, rows), NO_LABEL)
        return F.cross_entropy(logits, domains, reduction="sum")

    def tempered_class_loss(self, logits: Tensor, rows: Tensor, temperature: float) -> Tensor:
        """Return τ times the class losses of logits over τ: gradients keep their size, ‖p - y‖, at every τ.

        Args:
            logits: Class logits of these rows, (B, M).
            rows: Which, (B,).
            temperature: τ; at 1 exactly `class_loss`.
        """
        if temperature == 1.0:
            return self.class_loss(logits, rows)
        return temperature * self.class_loss(logits / temperature, rows)

    @staticmethod
    def _placed(values: Tensor, beside: Tensor, rows: Tensor) -> Tensor:
        # Whole batches go to the GPU and no numbers come back from it, for which the CPU would have to wait.
        return sent(values, beside.device)[rows]
