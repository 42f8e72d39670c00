"""The default task in both precisions and on both devices: is the mean the same within half a point?"""

import numpy as np
import torch

from benchmarks.device.bench import Bench
from benchmarks.learning.federated_loop import Trial, run
from fedapt_secure.learning.clip.backbone import TINY, Backbone, choose_precision, load_backbone
from fedapt_secure.learning.clip.device import Precision

BOUND_POINTS = 0.5


def measure(bench: Bench) -> None:
    """Train and evaluate over several seeds: sampling is fixed, no noise hides a difference."""
    torch.set_num_threads(1)  # these models are small: more threads would only wait for each other
    # Single runs part ways by chance, so the mean over seeds is held against the bound, for what `auto` gives
    # this model; the other precision is for information.
    usual = choose_precision("auto", bench.device, TINY)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    contenders = {"cpu float32": load_backbone()} | {
        f"{bench.device.type} {precision}": load_backbone(device=bench.device, precision=precision)
        for precision in precisions
    }
    accuracies = {name: [] for name in contenders}
    for seed in bench.size.seeds:
        with bench.guarded(f"default task, seed {seed}"):
            found = {name: _accuracy(bench, seed, backbone) for name, backbone in contenders.items()}
            for name, accuracy in found.items():
                accuracies[name].append(accuracy)
    reference = np.array(accuracies["cpu float32"])
    for name, values in accuracies.items():
        differences = np.array(values) - reference
        mean = float(differences.mean())
        bench.add(
            "default task",
            what=name,
            seeds=len(values),
            mean=float(np.mean(values)),
            difference_points=mean,
            largest_difference=float(np.abs(differences).max()),
            bound=BOUND_POINTS,
            passed=abs(mean) <= BOUND_POINTS if name.endswith(usual) else None,
        )


def _accuracy(bench: Bench, seed: int, backbone: Backbone) -> float:
    trial = Trial(seed=seed, epsilon=None, rounds=bench.size.rounds)
    with torch.random.fork_rng():
        scores = run(trial, backbone=backbone)
    correct = sum(one.tuned_correct for one in scores)
    return 100 * correct / sum(one.test_records for one in scores)
