"""Run the federated loop in memory, to choose and check the training defaults.

    python -m benchmarks.learning.tune_defaults --seeds 0 1 2 --epsilon 8 none

Five institutions, digits dealt as `simulate` deals them, plain means in place of secure aggregation.
Prints mean accuracies over the institutions' test records. The figures in docs/tuning.md come from here.
"""

import argparse
import dataclasses
import time

import numpy as np
import torch

from benchmarks.learning.federated_loop import Trial, run


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
