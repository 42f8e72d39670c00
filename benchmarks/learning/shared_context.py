"""What does it save to compute a shared context once for all classes?

    python -m benchmarks.learning.shared_context --repeats 5

Text features of a training step, forward and backward, on one core, in turns with the plain way. Weights are
random: time does not depend on their values.
"""

import argparse
import statistics
import time

import torch

from fedapt_secure.learning.clip.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.clip.text import PromptedText

CONTEXT_TOKENS = 24


def prompts(backbone: Backbone, classes: int, share: bool) -> PromptedText:
    names = [f"thing {number}" for number in range(classes)]
    return PromptedText(backbone, names, CONTEXT_TOKENS, class_specific=False, share_context=share)


def step_s(text: PromptedText) -> float:
    """Return the seconds of one forward and backward pass."""
    context = torch.randn(1, CONTEXT_TOKENS, text.backbone.text_width).requires_grad_()
    started = time.perf_counter()
    torch.autograd.backward(text.encode(context).sum())
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 345])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone(arguments.model, RANDOM)
    for classes in arguments.classes:
        shared, plain = (prompts(backbone, classes, share) for share in (True, False))
        rounds = [(step_s(shared), step_s(plain)) for _ in range(arguments.repeats + 1)][1:]  # one to warm up
        shared_s, plain_s = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(slow / fast for fast, slow in rounds)
        print(
            f"{arguments.model}, {classes} classes: shared {shared_s:.3f} s, plain {plain_s:.3f} s,"
            f" {ratio:.1f} times"
        )


if __name__ == "__main__":
    main()
