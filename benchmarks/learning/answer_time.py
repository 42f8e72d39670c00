"""Recognise who was sampled from when an institution's update leaves, with and without a fixed time.

    python -m benchmarks.learning.answer_time --rounds 100

Person mode: sixty persons with five images each, and one of them with 3,000 more. The real learner trains
rounds on images of digits; of each round the time that training took and the time at which the update left
are kept. An observer who knows in which rounds of the first half that person was sampled sets the threshold
that is best for them: how often it is right in the second half is the figure.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from fedapt_client.settings import ClientSettings
from fedapt_client.training.answer_time import AnswerTime
from fedapt_client.training.learner import Learner
from fedapt_secure.learning.batches.sampling import poisson_batch
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.privacy.budget import SessionShare
from fedapt_secure.process.streams import say
from tests.protocol.federation import Federation

PERSONS: Final = 60
IMAGES: Final = 5
OF_ONE: Final = 3000
CLASSES: Final = tuple(str(digit) for digit in range(10))


def write_images(folder: Path, of_one: int) -> Path:
    """Write all images and a manifest that says whose each is; return the manifest."""
    scans, rows = load_digits(), []
    owners = [f"person-{number}" for number in range(PERSONS) for _ in range(IMAGES)] + ["person-0"] * of_one
    for number, owner in enumerate(owners):
        pixels = (scans.images[number % len(scans.images)] * 15).astype("uint8")
        pixels[0, 0], pixels[0, 1] = number % 256, number // 256  # no two files are the same
        name = f"{number}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append({"path": name, "label": str(scans.target[number % len(scans.images)]), "subject": owner})
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "subject"])
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def make_learner(folder: Path, of_one: int) -> Learner:
    """Return an institution's learner for a session of one step a round."""
    backbone = load_backbone()
    federation = Federation(
        3,
        class_names=CLASSES,
        weight_hash=backbone.weight_hash,
        model_identity=backbone.identity,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        context_tokens=8,
        sample_rate=0.5,
    )
    settings = ClientSettings(
        name="clinic-1",
        port=1,
        data=write_images(folder, of_one),
        device="cpu",
        experiment_seed=1,
        insecure_deterministic_noise=True,  # so that it is known who was sampled
    )
    return Learner(settings, folder, federation.configuration, SessionShare(8.0, 0.005))


def person_is_in(learner: Learner, round_number: int) -> bool:
    """Whether the person with the many images is in a round's batch: the stream's first words say so."""
    stream = learner._repeatable(round_number)
    assert stream is not None
    units = learner._training_data(round_number).units(private=True)
    largest = units.largest_batch(1).records[0]
    chosen = poisson_batch(stream, len(units), learner._configuration.plan.sample_rate)
    return bool((units.batch(chosen).records == largest).any())


def recognised(times: np.ndarray, was_in: np.ndarray) -> float:
    """Return how often the threshold that is best for the first half of the rounds is right in the second."""
    half = len(times) // 2
    known, asked = times[:half], times[half:]
    guesses = [
        (((known > cut) == (was_in[:half] == above)).mean(), cut, above)
        for cut in (-np.inf, *np.unique(known))
        for above in (True, False)
    ]
    _, cut, above = max(guesses)
    return float(((asked > cut) == (was_in[half:] == above)).mean())


def main() -> None:
    """Train rounds, and say how often the person is recognised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--images-of-one", type=int, default=OF_ONE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        learner = make_learner(Path(name), options.images_of_one)
        answer = AnswerTime(learner.check_possible(), 600.0)
        first = answer.seconds
        shape = learner._configuration.plan.shape
        model, key = learner._configuration.plan.initial_model(), np.full(shape.key, 0.5, np.float32)
        was_in, took, left = [], [], []
        for number in range(1, options.rounds + 1):
            began = time.monotonic()
            learner.train(model, key, number)
            took.append(time.monotonic() - began)
            time.sleep(answer.wait_s(took[-1])[0])
            left.append(time.monotonic() - began)
            was_in.append(person_is_in(learner, number))
    truth = np.array(was_in)
    say(f"rounds: {len(truth)}, sampled in {truth.mean():.0%} of them")
    say(f"training: {min(took):.3f} to {max(took):.3f} s; recognised {recognised(np.array(took), truth):.0%}")
    spread_ms = 1000 * (max(left) - min(left))
    say(f"update leaves after {first:.3f} to {answer.seconds:.3f} s, within {spread_ms:.1f} ms;")
    say(
        f"recognised by it {recognised(np.array(left), truth):.0%}; always the same answer: {base(truth):.0%}"
    )


def base(was_in: np.ndarray) -> float:
    """Return how often one is right who always says the same."""
    return float(max(was_in.mean(), 1 - was_in.mean()))


if __name__ == "__main__":
    main()
