"""The federated loop in memory: digits dealt as `simulate` does, plain means in place of the protocol."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from fedapt_crypto.keystream import Keystream
from fedapt_secure.config.learning_rate import LearningRateSchedule
from fedapt_secure.learning.clip.backbone import Backbone, load_backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.dealing import DealOptions, DealtDataset, deal_dataset
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.evaluation.scores import Scores, evaluate
from fedapt_secure.learning.methods.base import Objective, Task, TrainingData
from fedapt_secure.learning.methods.fedapt import FedAptModel
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.accounting import plan_session
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.privacy.budget import declared_records
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

Replacement = Callable[[Task, TrainingData], Objective]
"""Gives another gradient than the method's own."""


@dataclass(frozen=True)
class Trial:
    """One setting under test; the defaults are those of `simulate`."""

    dataset: str = "digits"
    seed: int = 0
    epsilon: float | None = 8.0
    rounds: int = 30
    context_tokens: int = 16
    class_specific: bool = True
    local_steps: int = 4
    sample_rate: float = 0.5
    learning_rate: float = 3.0
    learning_rate_schedule: LearningRateSchedule = "linear"
    momentum: float = 0.0
    max_grad_norm: float = 0.5
    loss_temperature: float = 4.0
    domain_loss_weight: float = 0.3
    weight_decay: float = 0.0
    with_keys: bool = True
    noise: int = 0


AS_BEFORE: Final[Mapping[str, Any]] = {
    "rounds": 15,
    "context_tokens": 8,
    "learning_rate": 0.5,
    "learning_rate_schedule": "constant",
    "momentum": 0.9,
    "max_grad_norm": 1.0,
    "loss_temperature": 1.0,
    "domain_loss_weight": 1.0,
}
"""The defaults until November 2026, with which the figures of some pages were measured."""


@cache
def institutions(
    dataset: str,
    seed: int,
    backbone: Backbone | None = None,
    clients: int | None = None,
    domains: tuple[str, ...] = (),
    few_shot: int | None = None,
) -> tuple[DealtDataset, list[FeatureSet]]:
    options = DealOptions(domains=domains, few_shot=few_shot)
    with tempfile.TemporaryDirectory() as folder:
        dealt = deal_dataset(dataset, clients, seed, None, lambda name: Path(folder) / name, options)
        sets = [
            load_features(
                read_records(one.data, dealt.class_names).records, backbone or load_backbone(), None
            )
            for one in dealt.institutions
        ]
    return dealt, sets


def settings_of(trial: Trial, records: int) -> TrainingSettings:
    declared, sigma = declared_records(records), None
    if trial.epsilon is not None:
        plan = plan_session(trial.epsilon, None, records, trial.sample_rate, trial.rounds * trial.local_steps)
        sigma = plan.noise_multiplier
    fields = {field.name for field in dataclasses.fields(TrainingSettings)}
    chosen = {name: value for name, value in dataclasses.asdict(trial).items() if name in fields}
    return TrainingSettings(
        declared_records=declared, private=trial.epsilon is not None, noise_multiplier=sigma, **chosen
    )


def run(
    trial: Trial, replacement: Replacement | None = None, backbone: Backbone | None = None
) -> list[Scores]:
    """Return the scores of each institution after the last round, on the tiny model by default."""
    dealt, sets = institutions(trial.dataset, trial.seed, backbone)
    model = tuned(trial, replacement, backbone)
    zero_shot = model.text.zero_shot(dealt.zero_shot_template)
    return [
        evaluate(model, zero_shot, *features.test, {one.domain_index})
        for one, features in zip(dealt.institutions, sets, strict=True)
    ]


def tuned(
    trial: Trial, replacement: Replacement | None = None, backbone: Backbone | None = None
) -> FedAptModel:
    """Return the model after the last round."""
    dealt, sets = institutions(trial.dataset, trial.seed, backbone)
    backbone = backbone or load_backbone()
    shape = ParameterShape(
        classes=len(dealt.class_names),
        context_tokens=trial.context_tokens,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        domains=len(dealt.domains),
        class_specific=trial.class_specific,
    )
    rng = np.random.default_rng([trial.seed, 1])
    keys = rng.random((shape.domains, *shape.key), np.float32) * np.float32(trial.with_keys)
    trainers = [
        LocalTrainer(
            Task(
                backbone,
                dealt.class_names,
                shape,
                dealt.zero_shot_template,
                torch.from_numpy(keys[one.domain_index]).to(backbone.device),
                one.domain_index,
                settings=settings_of(trial, len(features.train[1])),
                # Fixed, so that a figure can be had again; nothing here is released.
                keystream=Keystream(bytes([trial.seed, one.domain_index, trial.noise]).ljust(32, b"\0")),
            ),
            TrainingData(*features.train),
        )
        for one, features in zip(dealt.institutions, sets, strict=True)
    ]
    if replacement is not None:
        for trainer in trainers:
            trainer._objective = replacement(trainer._task, trainer._objective._data)
    parameters = initial_parameters(shape, trial.seed)
    for number in range(1, trial.rounds + 1):
        parameters = parameters + np.mean([one.train(parameters, number) for one in trainers], axis=0)
    text = PromptedText(backbone, dealt.class_names, shape.context_tokens, shape.class_specific)
    parts = {name: torch.from_numpy(part) for name, part in unflatten(shape, parameters).items()}
    return FedAptModel(text, parts["meta_prompt"], parts["adaptive_network"], torch.from_numpy(keys))
