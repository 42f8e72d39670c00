"""One institution's training between two rounds: a few steps on its records, then the difference.

What leaves is the difference of the parameters, never a loss, a batch size or a clipping statistic. Under
DP momentum, weight decay and the proximal term come after clipping and noise: post-processing.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from fedapt_crypto.errors import InvalidInput, UpdateUnusable
from fedapt_secure.learning.batches.examples import NO_LABEL
from fedapt_secure.learning.batches.sampling import KeystreamUniformSampler, ShuffledBatches
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.privacy.mechanism import MAX_BATCH_RECORDS
from fedapt_secure.protocol.parameters import Vector, check_key, check_vector, flatten, unflatten

_one_tower_at_a_time = Lock()
"""Several institutions of one process take turns: each copy of an image tower's gradients is gigabytes, and
beside each other they share the same processors anyway."""


class LocalTrainer:
    """Trains one institution's copy of the parameters.

    Args:
        task: What it learns.
        data: Its training records.

    Raises:
        InvalidInput: If sizes do not fit, or the key holds values outside [0, 1).
    """

    def __init__(self, task: Task, data: TrainingData) -> None:
        check_key(task.shape, task.key.cpu().numpy())
        _check_sizes(task, data)
        self._task = task
        self._units = data.units(private=task.settings.private)
        self._sampler = _sampler(task, len(self._units))
        self._objective = method_of(task.shape.method).objective(task, data)

    def train(self, parameters: Vector, round_number: int = 1) -> Vector:
        """Return how ``local_steps`` steps change the parameters.

        Args:
            parameters: The round's shared parameters, flat.
            round_number: Which of the session's rounds, from 1: it decides on the learning rate.

        Returns:
            Local minus shared parameters, flat float32.

        Raises:
            InvalidInput: If the parameters have another length, or are not finite or out of range, or the
                session has no such round. No record has been used then.
            UpdateUnusable: If training diverged. Whether it does follows from the noisy gradients alone.
        """
        task, settings = self._task, self._task.settings
        check_vector(task.shape, parameters)
        if not 1 <= round_number <= settings.rounds:
            raise InvalidInput(f"there is no round {round_number} among {settings.rounds}")
        with _one_tower_at_a_time if task.shape.tower_values else nullcontext():
            return self._trained(parameters, round_number)

    def _trained(self, parameters: Vector, round_number: int) -> Vector:
        task, settings = self._task, self._task.settings
        present = {
            name: torch.from_numpy(values).to(task.backbone.device).requires_grad_()
            for name, values in unflatten(task.shape, parameters).items()
        }
        # An image tower has hundreds of MiB: what no method asks for is not kept.
        pulled = bool(settings.proximal_weight)
        start = {name: tensor.detach().clone() for name, tensor in present.items()} if pulled else present
        optimizer = torch.optim.SGD(
            list(present.values()),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        for step, chosen in enumerate(self._sampler):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(round_number, step)
            batch = self._units.batch(chosen)
            gradients = self._objective.gradients(present, batch)
            for name, tensor in present.items():
                gradient = self._mean(gradients[name], len(batch.records))
                tensor.grad = gradient + self._pull(tensor, start[name])
            optimizer.step()
        return self._difference(present, parameters)

    def _mean(self, gradient: Tensor, records: int) -> Tensor:
        """Return a sum over q·N̂ as a mean over the batch, where batches have a size."""
        if self._task.settings.batch_size is None:
            return gradient
        return gradient * (self._task.divisor / max(1, records))

    def _pull(self, present: Tensor, start: Tensor) -> Tensor | float:
        """Return the gradient of FedProx' μ/2·‖w - w₀‖² (Li et al. 2020, equation 2)."""
        weight = self._task.settings.proximal_weight
        return weight * (present.detach() - start) if weight else 0.0

    def _difference(self, present: Mapping[str, Tensor], parameters: Vector) -> Vector:
        values = {name: tensor.detach().cpu().numpy() for name, tensor in present.items()}
        local = flatten(self._task.shape, values)
        if not np.isfinite(local).all():
            raise UpdateUnusable("training diverged: lower the learning rate, or allow more epsilon")
        return local - parameters


def _sampler(task: Task, units: int) -> KeystreamUniformSampler | ShuffledBatches:
    settings = task.settings
    if settings.batch_size is not None:
        return ShuffledBatches(
            num_samples=units,
            batch_size=settings.batch_size,
            steps=settings.local_steps,
            keystream=task.keystream,
        )
    return KeystreamUniformSampler(
        num_samples=units,
        sample_rate=settings.sample_rate,
        steps=settings.local_steps,
        keystream=task.keystream,
    )


def _check_sizes(task: Task, data: TrainingData) -> None:
    shape, backbone, labels = task.shape, task.backbone, data.labels
    if (shape.text_width, shape.feature_size) != (backbone.text_width, backbone.feature_size):
        raise InvalidInput(f"the parameters do not fit the model {backbone.name}")
    if shape.classes != len(task.class_names):
        raise InvalidInput(f"the parameters are for {shape.classes} classes, not {len(task.class_names)}")
    if not 0 <= task.domain_index < shape.domains:
        raise InvalidInput(f"there is no domain {task.domain_index} among {shape.domains}")
    if len(labels) > MAX_BATCH_RECORDS:
        raise InvalidInput(f"{len(labels)} training records are more than the {MAX_BATCH_RECORDS} possible")
    if task.settings.private and data.couples_records:
        raise InvalidInput("what couples records cannot be trained under differential privacy")
    if data.features.shape != (len(labels), shape.feature_size):
        raise InvalidInput("features and labels do not fit each other")
    if data.subjects is not None and len(data.subjects) != len(labels):
        raise InvalidInput("subjects and labels do not fit each other")
    known = labels[labels != NO_LABEL]
    if len(known) and not 0 <= int(known.min()) <= int(known.max()) < shape.classes:
        raise InvalidInput("a label lies outside the classes")
