"""Canaries: records whose clipped gradients are as large as can be, at right angles to each other, and known.

A linear probe's gradient for one record is (p - 1_y) fᵀ: p the probabilities that the shared parameters give,
y the label, f the unit-norm feature. The adversary chooses f from an orthonormal basis, and parameters for
which p is the same for every f: probability a for each of m labels, b for one class more. With

    a = (1 - 1/√(m+1)) / m,    b = 1/√(m+1)

(p - 1_y)·(p - 1_y') is |p|² - 2a = 0 for two labels and 1 for one: m labels at right angles, each of norm 1.
So m·D canaries share a training run as if each were alone, and each is clipped where C < 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapt_secure.protocol.parameters import Vector

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Canaries:
    """Places for canaries in one training run, some of which are taken.

    Attributes:
        count: K, number of places.
        feature_size: D.
    """

    count: int
    feature_size: int

    @property
    def labels(self) -> int:
        """m, labels of canaries."""
        return math.ceil(self.count / self.feature_size)

    @property
    def classes(self) -> int:
        """M = m + 1."""
        return self.labels + 1

    @property
    def values(self) -> int:
        """D = M·D, values of a gradient."""
        return self.classes * self.feature_size

    @property
    def probabilities(self) -> Numbers:
        """p, (M,): a for each label, b for the last class."""
        root = math.sqrt(self.classes)
        return np.array([*[(1 - 1 / root) / self.labels] * self.labels, 1 / root])

    def parameters(self, logit_scale: float) -> Vector:
        """Return the adversarial parameters: class vectors under which every canary is seen as p.

        Args:
            logit_scale: Factor between cosines and logits.

        Returns:
            (M·D,), float32.
        """
        logits = np.log(self.probabilities)
        column = (logits - logits.mean()) / logit_scale
        return np.repeat(column[:, None], self.feature_size, axis=1).astype(np.float32).ravel()

    def records(
        self, present: Flags, images: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], Sequence[int]]:
        """Return the records of those canaries that are there.

        Args:
            present: Which, (K,).
            images: Records of each, all alike.

        Returns:
            Features (N, D), labels (N,), and whose each record is (N,).
        """
        owners = np.repeat(np.flatnonzero(present), images)
        features = np.eye(self.feature_size, dtype=np.float32)[owners % self.feature_size]
        return features, owners // self.feature_size, owners.tolist()

    def along(self, released: Numbers) -> Numbers:
        """Return how far a released sum goes along each canary's gradient, (K,).

        Args:
            released: (M, D).
        """
        common = self.probabilities @ released  # (D,)
        return (common - released[:-1]).ravel()[: self.count]

    def beside(self, released: Numbers) -> Numbers:
        """Return how far a released sum goes where no record's gradient has any part, (D,).

        Errors add up to zero over the classes, so along their diagonal there is noise alone.

        Args:
            released: (M, D).
        """
        diagonal: Numbers = released.sum(axis=0) / math.sqrt(self.classes)
        return diagonal
