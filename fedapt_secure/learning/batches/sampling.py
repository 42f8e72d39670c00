"""Poisson sampling from a keystream: who is in a step's batch is a secret that the guarantee rests on.

`ShuffledBatches` are what papers without differential privacy train on in its place.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream


def poisson_batch(keystream: Keystream, count: int, sample_rate: float) -> Tensor:
    """Return the indices of a Poisson sample: each record is in with the same probability, independently.

    Args:
        keystream: Where the randomness comes from.
        count: Number of records.
        sample_rate: q, in (0, 1]; 1 takes every record.

    Returns:
        Ascending indices, int64, (B,); B may be 0.

    Raises:
        InvalidInput: If the rate is outside (0, 1].
    """
    _check_rate(sample_rate)
    if sample_rate == 1:
        return torch.arange(count)
    # Rounded down: the true rate is at most 2⁻⁶⁴ below q, never above it.
    limit = np.uint64(int(sample_rate * 2.0**64))
    return torch.from_numpy(np.flatnonzero(keystream.uniform_words(count) < limit))


def most_sampled(count: int, sample_rate: float) -> int:
    """Return how many records a Poisson sample has at most, but for a probability below 2⁻⁶⁰.

    Bernstein's inequality, P(X ≥ nq + t) ≤ exp(-t² / (2nq(1-q) + 2t/3)), solved for t.

    Args:
        count: Number of records, n.
        sample_rate: q, in (0, 1].

    Raises:
        InvalidInput: If the rate is outside (0, 1].
    """
    _check_rate(sample_rate)
    exponent = 60 * math.log(2)
    variance = count * sample_rate * (1 - sample_rate)
    excess = exponent / 3 + math.sqrt((exponent / 3) ** 2 + 2 * exponent * variance)
    return min(count, math.ceil(count * sample_rate + excess))


class KeystreamUniformSampler(Sampler[Tensor]):
    """Opacus' `UniformWithReplacementSampler` on a keystream: yields one Poisson batch of indices a step.

    Fits a ``DataLoader`` as ``batch_sampler``. Iterating again goes on in the stream: no batch is drawn
    twice from the same randomness.

    Args:
        num_samples: Number of records, N.
        sample_rate: q, in (0, 1].
        steps: Batches in one iteration.
        keystream: Where the randomness comes from; a fresh one from the operating system by default.

    Raises:
        InvalidInput: If a number is out of range.
    """

    def __init__(
        self, *, num_samples: int, sample_rate: float, steps: int, keystream: Keystream | None = None
    ) -> None:
        _check_rate(sample_rate)
        if num_samples < 0 or steps < 1:
            raise InvalidInput("sampling needs no negative number of records and at least one step")
        self.num_samples = num_samples
        self.sample_rate = sample_rate
        self.steps = steps
        self._keystream = keystream or Keystream.from_operating_system()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.steps):
            yield poisson_batch(self._keystream, self.num_samples, self.sample_rate)


class ShuffledBatches(Sampler[Tensor]):
    """Passes over all records in a new order each, in batches of one size; the last of a pass may be smaller.

    As papers without differential privacy train. Nothing private rests on it: no accounting knows such
    batches.

    Args:
        num_samples: Number of records, N.
        batch_size: B, at least 1.
        steps: Batches in one iteration; passes follow each other until there are as many.
        keystream: Where the orders come from.

    Raises:
        InvalidInput: If a number is out of range.
    """

    def __init__(self, *, num_samples: int, batch_size: int, steps: int, keystream: Keystream) -> None:
        if num_samples < 0 or batch_size < 1 or steps < 1:
            raise InvalidInput("batches need no negative number of records, a size and at least one step")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.steps = steps
        self._keystream = keystream

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        left: list[Tensor] = []
        for _ in range(self.steps):
            if not left:
                rng = np.random.default_rng(self._keystream.uniform_words(4))
                order = torch.from_numpy(rng.permutation(self.num_samples))
                left = list(torch.split(order, self.batch_size))
            yield left.pop(0)


def steps_of_passes(count: int, batch_size: int, passes: int) -> int:
    """Return how many batches some passes over ``count`` records are, at least one."""
    return max(1, passes * -(-count // batch_size))


def _check_rate(sample_rate: float) -> None:
    if not 0 < sample_rate <= 1:
        raise InvalidInput("the sample rate must lie in (0, 1]")
