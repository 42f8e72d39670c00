"""Run the federated loop in memory, to choose and check the training defaults.

    python benchmarks/tune_defaults.py --seeds 0 1 2 --epsilon 8 none

Five institutions, digits dealt as `simulate` deals them, plain means in place of secure aggregation.
Prints mean accuracies over the institutions' test records. The figures in docs/tuning.md come from here.
"""

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.accounting import plan_session
from fedapt_secure.learning.backbone import load_backbone
from fedapt_secure.learning.data.dealing import DealtDataset, deal_dataset
from fedapt_secure.learning.data.features import FeatureSet, load_features
from fedapt_secure.learning.data.records import read_records
from fedapt_secure.learning.evaluation import Scores, evaluate
from fedapt_secure.learning.fedapt import FedAptModel
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.text import PromptedText
from fedapt_secure.learning.training import LocalTrainer
from fedapt_secure.learning.training_settings import TrainingSettings
from fedapt_secure.privacy.budget import declared_records
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten


@dataclass(frozen=True)
class Trial:
    """One setting under test."""

    dataset: str = "digits"
    seed: int = 0
    epsilon: float | None = 8.0
    rounds: int = 15
    context_tokens: int = 8
    class_specific: bool = True
    local_steps: int = 4
    sample_rate: float = 0.5
    learning_rate: float = 0.5
    momentum: float = 0.9
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    with_keys: bool = True
    noise: int = 0


@cache
def institutions(dataset: str, seed: int) -> tuple[DealtDataset, list[FeatureSet]]:
    with tempfile.TemporaryDirectory() as folder:
        dealt = deal_dataset(dataset, None, seed, None, lambda name: Path(folder) / name)
        sets = [
            load_features(read_records(one.data, dealt.class_names).records, load_backbone(), None)
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


def run(trial: Trial) -> list[Scores]:
    """Return the scores of each institution after the last round."""
    backbone = load_backbone()
    dealt, sets = institutions(trial.dataset, trial.seed)
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
                torch.from_numpy(keys[one.domain_index]),
                one.domain_index,
                settings=settings_of(trial, len(features.train[1])),
                # Fixed, so that a figure can be had again; nothing here is released.
                keystream=Keystream(bytes([trial.seed, one.domain_index, trial.noise]).ljust(32, b"\0")),
            ),
            TrainingData(*features.train),
        )
        for one, features in zip(dealt.institutions, sets, strict=True)
    ]
    parameters = initial_parameters(shape, trial.seed)
    for _ in range(trial.rounds):
        parameters = parameters + np.mean([trainer.train(parameters) for trainer in trainers], axis=0)
    text = PromptedText(backbone, dealt.class_names, shape.context_tokens, shape.class_specific)
    parts = {name: torch.from_numpy(part) for name, part in unflatten(shape, parameters).items()}
    model = FedAptModel(text, parts["meta_prompt"], parts["adaptive_network"], torch.from_numpy(keys))
    zero_shot = text.zero_shot(dealt.zero_shot_template)
    return [
        evaluate(model, zero_shot, *features.test, {one.domain_index})
        for one, features in zip(dealt.institutions, sets, strict=True)
    ]


def line(trial: Trial) -> str:
    start = time.perf_counter()
    scores = run(trial)
    zero_shot, fedapt, routing = (
        100 * float(np.mean([getattr(one, name) for one in scores]))
        for name in ("zero_shot_accuracy", "tuned_accuracy", "routing_share")
    )
    lowest = 100 * min(one.routing_share for one in scores)
    epsilon = "none" if trial.epsilon is None else f"{trial.epsilon:g}"
    return (
        f"{trial.dataset:15} {trial.seed:4} {epsilon:>7} {zero_shot:9.1f} {fedapt:6.1f}"
        f" {fedapt - zero_shot:+6.1f} {routing:8.1f} {lowest:7.1f} {time.perf_counter() - start:6.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epsilon", nargs="+", default=["8", "none"], help="budgets, or none")
    parser.add_argument("--dataset", nargs="+", default=["digits", "digits-flipped"])
    for field in dataclasses.fields(Trial):
        if field.type in {int, float} and field.name != "seed":
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    parser.add_argument("--shared-context", action="store_true")
    parser.add_argument("--without-keys", action="store_true", help="PromptFL: one prompt for all domains")
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    seeds, budgets, datasets = (options.pop(name) for name in ("seeds", "epsilon", "dataset"))
    common = {
        "class_specific": not options.pop("shared_context"),
        "with_keys": not options.pop("without_keys"),
        **options,
    }
    print("dataset         seed epsilon zero-shot FedAPT   gain  routing  lowest seconds")
    for dataset in datasets:
        for budget in budgets:
            epsilon = None if budget == "none" else float(budget)
            for seed in seeds:
                print(line(Trial(dataset=dataset, seed=seed, epsilon=epsilon, **common)), flush=True)


if __name__ == "__main__":
    main()
