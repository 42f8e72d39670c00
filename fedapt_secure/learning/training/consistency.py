"""Records without labels, second stage of FedAPT: images near each other should be called the same.

The reference code's loss, which follows "Attracting and Dispersing" (Yang et al., NeurIPS 2022). With p the
present probabilities of plain views, p' those of augmented ones, s a bank of what was said of each record
last, and C(i) the 5 nearest neighbours of i by the cosine of plain features:

  Σ_i [ CE(s_i, p'_i) - Σ_{j in C(i)} s_j·p_i + 0.5 · Σ_{m ≠ i} p_i·p_m ] / (q·N̂) + domain loss of plain views

The reference writes the attraction as `kl_div(p_i, s_j)` with p where that function expects log p: a
constant apart this is -s_j·p_i, and that is what it trains. s is refreshed with the batch's p; C(i) sees the
refreshed bank, the cross-entropy the one before. The gradient of the last sum with respect to p_i is Σ_{m ≠
i} p_m, so a cost a class and row, computed beforehand, gives all gradients in chunks of any size.

For CE(s_i, p'_i) the reference code takes `log_softmax(p'_i)` where log p'_i would stand: the cross-entropy
of a softmax of probabilities, whose gradient with respect to p' is softmax(p') - s, again a cost a class and
row. It is never far from the uniform distribution, so it pulls less, and pulls on even where p' = s.
``reference`` is that one, ``plain`` the cross-entropy.

Bank and batch couple records: no bound for one of them holds, so this is never trained under differential
privacy.
"""

from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.config.unsupervised import ConsistencyLoss
from fedapt_secure.learning.batches.examples import Examples, Model
from fedapt_secure.learning.data.reading.augmentation import Views
from fedapt_secure.learning.methods.base import TrainingData
from fedapt_secure.learning.training.pseudo_labels import ROWS_AT_ONCE

NEIGHBOURS: Final = 5
DISPERSION: Final = 0.5
_CHUNK_BYTES: Final = 64 << 20


class Bank:
    """What was last said of each of an institution's training records; lasts from round to round.

    Args:
        features: Image features of plain views, (N, D); they never change, so neither do neighbours.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self._probabilities: Tensor | None = None  # (N, M)
        count = len(features)
        self._neighbours = torch.full((count, min(NEIGHBOURS, max(0, count - 1))), -1, dtype=torch.int64)

    def probabilities(self, model: Model) -> Tensor:
        """Return the bank, (N, M), to be changed in place; filled by the present model at its first use."""
        if self._probabilities is None:
            parts = [model(some).softmax(dim=1).cpu() for some in torch.split(self.features, ROWS_AT_ONCE)]
            self._probabilities = torch.cat(parts)
        return self._probabilities

    def neighbours(self, batch: Tensor) -> Tensor:
        """Return the nearest other records of some records, (B, 5), fewer where there are not as many."""
        unknown = batch[(self._neighbours[batch] < 0).any(dim=1)]
        rows = max(1, _CHUNK_BYTES // (4 * max(1, len(self.features))))
        for some in torch.split(unknown, rows) if len(unknown) else ():
            cosines = _unit(self.features[some]) @ _unit(self.features).T  # (rows, N)
            cosines[torch.arange(len(some)), some] = -torch.inf
            self._neighbours[some] = cosines.topk(self._neighbours.shape[1], dim=1).indices
        return self._neighbours[batch]


@dataclass(frozen=True)
class Consistent(TrainingData):
    """Records that are pulled towards what is said of themselves and their neighbours; labels are not read.

    Attributes:
        bank: What is said of them.
        views: Their augmented views.
        loss: Which cross-entropy towards the bank.
    """

    bank: Bank = field(kw_only=True)
    views: Views = field(kw_only=True)
    loss: ConsistencyLoss = field(kw_only=True, default="plain")

    @property
    def couples_records(self) -> bool:
        """Always: through the bank, and through the others of a batch."""
        return True

    @torch.no_grad()
    def examples(self, batch: Tensor, model: Model) -> Examples:
        """Return two rows a record: the augmented view with what the bank says, then the plain view."""
        plain, bank = self.features[batch], self.bank.probabilities(model)
        said = bank[batch]
        present = model(plain).softmax(dim=1).cpu()  # p, (B, M)
        bank[batch] = present
        near = bank[self.bank.neighbours(batch)].sum(dim=1)
        others = present.sum(dim=0) - present
        nothing, silent = torch.zeros_like(said), torch.zeros(len(batch), dtype=torch.bool)
        seen = self.views.take(batch)
        towards, cost = said, nothing
        if self.loss == "reference":
            towards, cost = nothing, model(seen).softmax(dim=1).softmax(dim=1).cpu() - said
        return Examples(
            features=torch.cat([seen, plain]),
            targets=torch.cat([towards, nothing]),
            repulsion=torch.cat([cost, 2 * DISPERSION * others - near]),
            tells_domain=torch.cat([silent, ~silent]),
        )


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
