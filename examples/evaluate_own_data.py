"""Measure a finished model on your own labelled images, and list what it confuses most.

    python examples/evaluate_own_data.py model.safetensors IMAGES

IMAGES is a folder DOMAIN/CLASS/IMAGE or CLASS/IMAGE. Nothing leaves this machine; the figures follow from
your images without noise, so publishing them is outside the privacy guarantee.
"""

import sys
from pathlib import Path

import fedapt_secure
from fedapt_secure.inference.evaluating import evaluate_on
from fedapt_secure.inference.labelled import read_labelled


def main(bundle: str, images: str) -> None:
    model = fedapt_secure.load(bundle)
    found = evaluate_on(model, read_labelled(Path(images), model.class_names, "test"))
    total = found.total
    print(f"{total.images} images: top-1 {total.accuracy:.1%}, top-5 {total.top_5_accuracy:.1%}")
    for domain, tally in found.by_domain.items():
        print(f"  {domain}: {tally.accuracy:.1%} of {tally.images}")
    wrong = [(count, *pair) for pair, count in total.pairs.items() if pair[0] != pair[1]]
    for count, true, said in sorted(wrong, reverse=True)[:5]:
        print(f"  {model.class_names[true]} taken for {model.class_names[said]}: {count} times")


if __name__ == "__main__":
    main(*sys.argv[1:])
