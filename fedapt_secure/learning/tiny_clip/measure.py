"""Measure the shipped tiny CLIP on the digits: zero-shot accuracy a domain, and a probe on its features.

    python -m fedapt_secure.learning.tiny_clip.measure

The probe is a logistic regression on the frozen features of all domains together: what could be had by
training on pooled data. Seconds on one core.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from fedapt_secure.learning.clip.backbone import Backbone, load_backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.dealing import DatasetName, deal_dataset
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.evaluation.scores import zero_shot_correct

_PROBE_INVERSE_PENALTY = 100.0


@dataclass(frozen=True)
class Measurement:
    """Accuracies a domain, in [0, 1].

    Attributes:
        domains: Names of the domains.
        zero_shot: On all scans of each domain.
        zero_shot_test: On each domain's test scans.
        probe_test: The probe's, on each domain's test scans; trained on all domains' training scans.
    """

    domains: tuple[str, ...]
    zero_shot: tuple[float, ...]
    zero_shot_test: tuple[float, ...]
    probe_test: tuple[float, ...]


def measure(backbone: Backbone, seed: int, dataset: DatasetName = "digits") -> Measurement:
    """Deal the digits to five institutions, one a domain, and measure.

    Args:
        backbone: The frozen CLIP.
        seed: Of the deal.
        dataset: ``digits`` or ``digits-flipped``.
    """
    with tempfile.TemporaryDirectory() as folder:
        dealt = deal_dataset(dataset, None, seed, None, lambda name: Path(folder) / name)
        sets = [
            load_features(read_records(one.data, dealt.class_names).records, backbone, None)
            for one in dealt.institutions
        ]
    text = PromptedText(backbone, dealt.class_names, context_tokens=1).zero_shot(dealt.zero_shot_template)
    return Measurement(
        domains=dealt.domains,
        zero_shot=tuple(_zero_shot(text, one.features, one.labels) for one in sets),
        zero_shot_test=tuple(_zero_shot(text, *one.test) for one in sets),
        probe_test=_probe(sets),
    )


def _zero_shot(text: Tensor, features: Tensor, labels: Tensor) -> float:
    return zero_shot_correct(text, features, labels).total() / len(labels)


def _probe(sets: list[FeatureSet]) -> tuple[float, ...]:
    features = torch.cat([F.normalize(one.train[0], dim=-1) for one in sets]).numpy()
    labels = torch.cat([one.train[1] for one in sets]).numpy()
    probe = LogisticRegression(C=_PROBE_INVERSE_PENALTY, max_iter=2000).fit(features, labels)
    return tuple(
        float(probe.score(F.normalize(one.test[0], dim=-1).numpy(), one.test[1].numpy())) for one in sets
    )


def main() -> None:
    """Print one line a domain and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the deal (default 0)")
    seed = parser.parse_args().seed
    result = measure(load_backbone(), seed)
    rows = zip(result.domains, result.zero_shot, result.zero_shot_test, result.probe_test, strict=True)
    lines = [f"{'domain':8}  zero-shot  on test scans  probe on test scans"]
    lines += [f"{domain:8}  {100 * a:8.1f}  {100 * b:13.1f}  {100 * c:19.1f}" for domain, a, b, c in rows]
    means = [
        100 * float(np.mean(part)) for part in (result.zero_shot, result.zero_shot_test, result.probe_test)
    ]
    lines.append(f"{'mean':8}  {means[0]:8.1f}  {means[1]:13.1f}  {means[2]:19.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
