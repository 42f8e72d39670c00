"""What training without labels gains over the untuned model on the embedded digits.

    python -m benchmarks.learning.unsupervised                       # the table of docs/unsupervised.md
    python -m benchmarks.learning.unsupervised --confidence 0.9 --consistency 0 --views 8

Five institutions in one process, without protocol and secure aggregation: the model is the same.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import get_args

import numpy as np
import torch

from fedapt_crypto.keystream import Keystream
from fedapt_secure.config.unsupervised import AUGMENTATIONS, ConsistencyLoss, PseudoLabelMean
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.augmentation import Views, augmentation, view_name
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.evaluation.scores import evaluate
from fedapt_secure.learning.methods.base import ClassifierParts, Task
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.accounting import plan_session
from fedapt_secure.learning.training.consistency import Bank, Consistent
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.learning.training.pseudo_labels import PseudoLabelled, pseudo_labels
from fedapt_secure.privacy.budget import declared_records, default_delta
from fedapt_secure.protocol.initial_context import PAPER_WORDS
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten
from fedapt_secure.simulate.setup.unsupervised import CONTEXT_LEARNING_RATE

LOCAL_STEPS, SAMPLE_RATE, CONTEXT_TOKENS, TEMPERATURE = 4, 0.5, 8, 0.01


class Trial:
    """The digits of one seed, their features and their views."""

    def __init__(self, options: argparse.Namespace, seed: int, folder: Path) -> None:
        self.options, self.seed, self.backbone = options, seed, load_backbone()
        self.dealt = deal_dataset(options.dataset, 5, seed, None, lambda name: folder / name)
        self.shape = ParameterShape(10, CONTEXT_TOKENS, 64, 64, 5, method=options.method)
        names = tuple(one for one in AUGMENTATIONS if one in options.augmentations.split(","))
        self.plain, self.views = [], []
        for one in self.dealt.institutions:
            records = read_records(one.data, self.dealt.class_names).records
            self.plain.append(load_features(records, self.backbone, folder / "cache"))
            seen = [
                load_features(
                    records,
                    self.backbone,
                    folder / "cache",
                    view=view_name(names, number),
                    transform=augmentation(names, self.backbone),
                ).train[0]
                for number in range(options.views if names else 0)
            ]
            self.views.append(Views(seen or [self.plain[-1].train[0]]))

    def run(self) -> tuple[float, float]:
        """Return the mean accuracy over domains of the untuned and of the tuned model, in per cent."""
        options, shape, backbone = self.options, self.shape, self.backbone
        words = initial_context(backbone, PAPER_WORDS).embeddings(64) if options.words else None
        vector = initial_parameters(shape, self.seed, words)
        keys = torch.from_numpy(np.random.default_rng(self.seed).random((5, *shape.key), np.float32))
        parties = [self._party(number, keys[number]) for number in range(5)]
        for number in range(1, options.rounds + 1):
            late = number > options.rounds - options.consistency
            updates = [
                LocalTrainer(task, later if late else first).train(vector) for task, first, later in parties
            ]
            vector = (vector + np.mean(updates, axis=0)).astype(np.float32)
        return self._scores(vector, keys)

    def _party(self, number: int, key: torch.Tensor) -> tuple[Task, PseudoLabelled, Consistent]:
        options, dealt, features = self.options, self.dealt, self.plain[number].train[0]
        count = declared_records(len(features))
        sigma = None
        if options.epsilon is not None:
            steps = options.rounds * LOCAL_STEPS
            delta = default_delta(count)
            plan = plan_session(options.epsilon, delta, len(features), SAMPLE_RATE, steps)
            sigma = plan.noise_multiplier
        settings = TrainingSettings(
            declared_records=count,
            private=sigma is not None,
            noise_multiplier=sigma,
            learning_rate=options.learning_rate,
        )
        keystream = Keystream(bytes([self.seed, number]) + bytes(30))
        template = options.template or dealt.zero_shot_template
        task = Task(self.backbone, dealt.class_names, self.shape, template, key, number, settings, keystream)
        labels = pseudo_labels(self.backbone, dealt.class_names, template, features, options.confidence)
        views = self.views[number]
        sure = len(dealt.class_names) if options.pseudo_label_mean == "sure" else None
        first = PseudoLabelled(features, labels, views=views, classes=sure)
        nothing, loss = torch.full_like(labels, -100), options.consistency_loss
        return task, first, Consistent(features, nothing, bank=Bank(features), views=views, loss=loss)

    def _scores(self, vector: np.ndarray, keys: torch.Tensor) -> tuple[float, float]:
        parts = {name: torch.from_numpy(values) for name, values in unflatten(self.shape, vector).items()}
        names, template = self.dealt.class_names, self.dealt.zero_shot_template
        model = method_of(self.shape.method).classifier(
            ClassifierParts(self.backbone, names, self.shape, template, parts, keys, TEMPERATURE)
        )
        text = zero_shot_text(self.backbone, names, template)
        found = [evaluate(model, text, *one.test, {number}) for number, one in enumerate(self.plain)]
        zero_shot, tuned = mean(s.zero_shot_accuracy for s in found), mean(s.tuned_accuracy for s in found)
        return 100 * zero_shot, 100 * tuned


def measure(options: argparse.Namespace) -> None:
    """Print one line: untuned, tuned and gain with their standard deviations over seeds."""
    found = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            found.append(Trial(options, seed, Path(folder)).run())
    gains = [tuned - zero_shot for zero_shot, tuned in found]
    columns = [[one[0] for one in found], [one[1] for one in found], gains]
    spread = [f"{mean(one):.1f} ± {stdev(one) if len(one) > 1 else 0:.1f}" for one in columns]
    each = " ".join(f"{one:+.1f}" for one in gains)
    print(f"{options.label:<44} {spread[0]:>12} {spread[1]:>12} {spread[2]:>12}   ({each})", flush=True)


def main() -> None:
    """Measure what is asked for; by default the settings that the document shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--label", default="as asked for")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--method", default="fedapt")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--consistency", type=int, default=4)
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--confidence", type=float, default=0.75)
    parser.add_argument("--learning-rate", type=float, default=CONTEXT_LEARNING_RATE)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--augmentations", default="jitter,greyscale,blur")
    parser.add_argument("--consistency-loss", choices=get_args(ConsistencyLoss), default="plain")
    parser.add_argument("--pseudo-label-mean", choices=get_args(PseudoLabelMean), default="batch")
    parser.add_argument("--template")
    parser.add_argument("--words", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.label != "as asked for" or any(
        vars(options)[k] != parser.get_default(k) for k in vars(options)
    ):
        measure(options)
        return
    for label, changes in {
        "no DP: 11 rounds of pseudo-labels, 4 of both": {},
        "no DP: pseudo-labels alone": {"consistency": 0},
        "epsilon 8: pseudo-labels alone": {"consistency": 0, "epsilon": 8.0},
    }.items():
        measure(argparse.Namespace(**vars(options) | {"label": label} | changes))


if __name__ == "__main__":
    main()
