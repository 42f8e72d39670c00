"""Search the learning rate of every method on the same grid, to choose the defaults and to compare fairly.

    python -m benchmarks.learning.tune_methods --processes 2 --out tuned.jsonl

The federated loop in memory: digits dealt as `simulate` deals them, plain means in place of secure
aggregation, the defaults of `simulate` for everything else. The seeds are not those of docs/results.md. A
finished trial is a line of --out, and is not repeated when the command is given again. Prints the mean
accuracy over data sets, domains and seeds for each learning rate, and the best. docs/tuning.md has the
figures.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fedapt_crypto.errors import RunFailed
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.data.dealing import DealtDataset, deal_dataset
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.features.pixels import ImageSource, test_images, training_images
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.evaluation.scores import own_features, tally_of
from fedapt_secure.learning.methods.base import Classifier, ClassifierParts, Task, TrainingData
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.accounting import plan_session
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.privacy.budget import declared_records
from fedapt_secure.protocol.methods import FEDPROX, METHODS, ZERO_SHOT, method_facts
from fedapt_secure.protocol.parameters import ParameterShape, Vector, initial_parameters, unflatten
from fedapt_secure.simulate.setup.planning import DEFAULT_PROXIMAL_WEIGHT

GRID = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SEEDS = (10, 11, 12)
ROUNDS, LOCAL_STEPS = 15, 4
TRAINABLE = tuple(name for name in METHODS if name != ZERO_SHOT)


@dataclass(frozen=True)
class Trial:
    """One run."""

    method: str
    dataset: str
    epsilon: float | None
    learning_rate: float
    seed: int

    @property
    def steps(self) -> tuple[int, int]:
        """Rounds, and steps of each; alone there are no rounds."""
        return (ROUNDS, LOCAL_STEPS) if method_facts(self.method).federated else (1, ROUNDS * LOCAL_STEPS)


@dataclass(frozen=True)
class Share:
    """What an institution holds."""

    domain_index: int
    features: FeatureSet
    training: ImageSource
    test: ImageSource


@cache
def shares_of(dataset: str, seed: int) -> tuple[DealtDataset, list[Share]]:
    folder = Path(tempfile.mkdtemp(prefix="tune-methods-"))  # the image tower's methods read images later
    backbone = load_backbone()
    dealt = deal_dataset(dataset, None, seed, None, lambda name: folder / name)
    shares = []
    for one in dealt.institutions:
        records = read_records(one.data, dealt.class_names).records
        features = load_features(records, backbone, None)
        training, test = (make(records, features, backbone) for make in (training_images, test_images))
        shares.append(Share(one.domain_index, features, training, test))
    return dealt, shares


def shape_of(trial: Trial, dealt: DealtDataset) -> ParameterShape:
    backbone, facts = load_backbone(), method_facts(trial.method)
    return ParameterShape(
        classes=len(dealt.class_names),
        context_tokens=8,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        domains=len(dealt.domains),
        class_specific=facts.class_specific is not False,
        method=trial.method,
        tower_values=backbone.image_tower_values if facts.never_private else 0,
    )


def settings_of(trial: Trial, records: int) -> TrainingSettings:
    rounds, local_steps = trial.steps
    sigma = None
    if trial.epsilon is not None:
        sigma = plan_session(trial.epsilon, None, records, 0.5, rounds * local_steps).noise_multiplier
    return TrainingSettings(
        declared_records=declared_records(records),
        private=trial.epsilon is not None,
        noise_multiplier=sigma,
        local_steps=local_steps,
        learning_rate=trial.learning_rate,
        proximal_weight=DEFAULT_PROXIMAL_WEIGHT.get(trial.method, 0.0) if trial.method == FEDPROX else 0.0,
    )


def run(trial: Trial) -> float:
    """Return the accuracy: mean over domains, and over the institutions' models where each has its own."""
    backbone = load_backbone()
    dealt, shares = shares_of(trial.dataset, trial.seed)
    shape = shape_of(trial, dealt)
    keys = np.random.default_rng([trial.seed, 1]).random((shape.domains, *shape.key), np.float32)
    trainers = [
        LocalTrainer(
            Task(
                backbone,
                dealt.class_names,
                shape,
                dealt.zero_shot_template,
                torch.from_numpy(keys[one.domain_index]),
                one.domain_index,
                settings=settings_of(trial, len(one.features.train[1])),
                # Fixed, so that a figure can be had again; nothing here is released.
                keystream=Keystream(bytes([trial.seed, one.domain_index]).ljust(32, b"\0")),
            ),
            TrainingData(*one.features.train, one.training),
        )
        for one in shares
    ]
    start = initial_parameters(shape, trial.seed)
    if method_facts(trial.method).federated:
        for _ in range(ROUNDS):
            start = start + np.mean([trainer.train(start) for trainer in trainers], axis=0)
        finished = [start]
    else:
        finished = [start + trainer.train(start) for trainer in trainers]

    def classifier(parameters: Vector) -> Classifier:
        parts = {name: torch.from_numpy(part) for name, part in unflatten(shape, parameters).items()}
        template, placed = dealt.zero_shot_template, torch.from_numpy(keys)
        made = ClassifierParts(backbone, dealt.class_names, shape, template, parts, placed, 0.01)
        return method_of(trial.method).classifier(made)

    return float(np.mean([accuracy(classifier(one), share) for one in finished for share in shares]))


def accuracy(model: Classifier, share: Share) -> float:
    features, labels = share.features.test
    if model.changes_image_tower:
        features = own_features(model, share.test, len(labels))
    return tally_of(model.predict(features), labels, None).accuracy


def outcome(trial: Trial) -> dict[str, object]:
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        result = run(trial)
    except (RunFailed, ValueError) as error:  # diverged, or left the range that is accepted
        print(f"{trial}: {error}", flush=True)
        result = 0.0
    return {**dataclasses.asdict(trial), "accuracy": result, "seconds": time.perf_counter() - began}


def table(results: list[dict[str, object]], budgets: list[float | None]) -> None:
    """Print the mean accuracy of each learning rate, and the best of each method."""
    found: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for one in results:
        columns = (one["method"], one["dataset"], one["epsilon"], one["learning_rate"])
        found[columns].append(float(str(one["accuracy"])))
    means = {columns: 100 * float(np.mean(values)) for columns, values in found.items()}
    for method in dict.fromkeys(columns[0] for columns in means):
        settings = list(dict.fromkeys(columns[1:3] for columns in means if columns[0] == method))
        print(f"\n{method}: learning rate, then " + ", ".join(f"{d} at ε {e or 'none'}" for d, e in settings))
        rates = sorted({columns[3] for columns in means if columns[0] == method}, key=lambda r: float(str(r)))
        over_all = {}
        for rate in rates:
            row = [means.get((method, *setting, rate), float("nan")) for setting in settings]
            over_all[rate] = float(np.mean(row))
            print(
                f"{rate!s:>8}" + "".join(f"{value:8.1f}" for value in row) + f"   mean {over_all[rate]:.1f}"
            )
        print("best over all:", max(over_all, key=lambda r: over_all[r]))
        for setting in settings:
            best = max(rates, key=lambda r: means.get((method, *setting, r), -1.0))
            print(f"best for {setting[0]} at ε {setting[1] or 'none'}: {best}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(TRAINABLE), choices=TRAINABLE)
    parser.add_argument("--datasets", nargs="+", default=["digits", "digits-flipped"])
    parser.add_argument("--epsilons", nargs="+", default=["none", "8"], help="budgets, or none")
    parser.add_argument("--rates", type=float, nargs="+", default=list(GRID))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("tuned.jsonl"))
    options = parser.parse_args()
    budgets = [None if one == "none" else float(one) for one in options.epsilons]
    trials = [
        Trial(method, dataset, epsilon, rate, seed)
        for method in options.methods
        for seed in options.seeds
        for dataset in options.datasets
        for epsilon in budgets
        if epsilon is None or method_facts(method).never_private is None
        for rate in options.rates
    ]
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    results = [json.loads(line) for line in lines]
    done = {Trial(**{f.name: one[f.name] for f in dataclasses.fields(Trial)}) for one in results}
    left = [trial for trial in trials if trial not in done]
    with ProcessPoolExecutor(options.processes) as pool, options.out.open("a") as stream:
        for number, result in enumerate(pool.map(outcome, left), start=1):
            results.append(result)
            stream.write(json.dumps(result) + "\n")
            stream.flush()
            print(f"{number} of {len(left)}: {result}", flush=True)
    wanted = {tuple(dataclasses.asdict(trial).values()) for trial in trials}
    fields = [field.name for field in dataclasses.fields(Trial)]
    table([one for one in results if tuple(one[name] for name in fields) in wanted], budgets)


if __name__ == "__main__":
    main()
