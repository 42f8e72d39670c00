"""One institution that trains on canaries: the real trainer, sampler, clipping and noise.

What is handed out is the noisy sum of gradients over C, which follows from the update that leaves: the linear
probe's update is -η/(q·N̂) times it, and η, q and N̂ are public. One step a round, so that every step is seen,
which is what the accountant assumes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.privacy.budget import declared_records
from fedapt_secure.privacy.unit import PERSON, PrivacyUnit
from fedapt_secure.privacy_test.canaries import Canaries, Flags, Numbers
from fedapt_secure.protocol.methods import LINEAR_PROBE
from fedapt_secure.protocol.parameters import ParameterShape

CLIPPING_NORM: Final = 0.5
"""C: half a canary's gradient, so that clipping that is too lax shows."""
IMAGES_OF_A_PERSON: Final = 5
"""Each of them has the whole gradient: a sum that is clipped image by image shows five times as large."""


@dataclass(frozen=True)
class Training:
    """How the institution trains.

    Attributes:
        noise_multiplier: σ.
        sample_rate: q, in (0, 1].
        unit: Whether a canary is an image or a person.
    """

    noise_multiplier: float
    sample_rate: float
    unit: PrivacyUnit


class Institution:
    """Trains round after round from the adversary's parameters.

    Args:
        canaries: The places.
        present: Which of them are taken, (K,).
        training: How.
    """

    def __init__(self, canaries: Canaries, present: Flags, training: Training) -> None:
        backbone = load_backbone()
        self._canaries = canaries
        self._settings = TrainingSettings(
            declared_records=declared_records(canaries.count),
            noise_multiplier=training.noise_multiplier,
            local_steps=1,
            sample_rate=training.sample_rate,
            max_grad_norm=CLIPPING_NORM,
        )
        shape = ParameterShape(
            classes=canaries.classes,
            context_tokens=1,
            text_width=backbone.text_width,
            feature_size=canaries.feature_size,
            domains=1,
            method=LINEAR_PROBE,
        )
        task = Task(
            backbone=backbone,
            class_names=tuple(f"class {number}" for number in range(canaries.classes)),
            shape=shape,
            template="a photo of a {}",
            key=torch.zeros(shape.key),
            domain_index=0,
            settings=self._settings,
            keystream=Keystream.from_operating_system(),
        )
        by_person = training.unit == PERSON
        features, labels, owners = canaries.records(present, IMAGES_OF_A_PERSON if by_person else 1)
        subjects = tuple(map(str, owners)) if by_person else None
        data = TrainingData(torch.from_numpy(features), torch.from_numpy(labels), None, subjects)
        self._trainer = LocalTrainer(task, data)
        self._parameters = canaries.parameters(backbone.logit_scale)

    def round(self) -> Numbers:
        """Train one round, and return the noisy sum of clipped gradients over C, (M, D)."""
        settings = self._settings
        update = self._trainer.train(self._parameters).astype(np.float64)
        scale = settings.sample_rate * settings.declared_records / settings.learning_rate
        return (-scale / CLIPPING_NORM * update).reshape(-1, self._canaries.feature_size)


def use_one_thread() -> None:
    """Let this process compute on one core: matrices are small, and threads would wait for each other."""
    torch.set_num_threads(1)


def feature_size() -> int:
    """Return D of the model in use, the shipped one."""
    return load_backbone().feature_size
