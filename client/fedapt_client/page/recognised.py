"""What a finished model recognises on the images held out here, from the two files that a session leaves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapt_client.training.kept_models import KeptModels
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.learning.evaluation.scores import ORACLE_ROUTING, UNIFORM_ROUTING
from fedapt_secure.learning.evaluation.tally import Tally, class_fields
from fedapt_secure.pages.answers import Answers, answers


@dataclass(frozen=True)
class Recognised:
    """Accuracy of one session's model here. Counts of this institution's images: for its own people.

    Attributes:
        images: How many images were held out, with a label.
        tuned, zero_shot, top_5: Shares that were recognised.
        uniform, oracle: The same with all keys alike, and with the own key, told; ``None`` without keys.
        right_key: Share whose domain was recognised; ``None`` without keys.
        answers: By class, and what was taken for what.
        keys: Names of the keys; empty without. routed: How many images each was used for, (1, K).
    """

    images: int
    tuned: float
    zero_shot: float
    top_5: float
    uniform: float | None
    oracle: float | None
    right_key: float | None
    answers: Answers
    keys: Sequence[str]
    routed: Sequence[Sequence[int]]


def recognised(folder: Path, session: str) -> Recognised | None:
    """Return what a session's model recognises here; ``None`` where no image with a label was held out.

    Args:
        folder: The party's folder.
        session: Which session, hexadecimal.

    Raises:
        InvalidInput: If a file is damaged or cannot be read.
    """
    kept = KeptModels(folder)
    path, scored = kept.path(session), kept.evaluation(session)
    if not path.exists() or not scored.exists():
        return None
    bundle, fields = read_bundle(path), _read(scored)
    names, keys = bundle.class_names, bundle.key_names if bundle.keys is not None else ()
    tally = Tally.from_fields(fields)
    if not tally.images:
        return None
    if any(not 0 <= label < len(names) for pair in tally.pairs for label in pair):
        raise InvalidInput(f"{scored} counts answers that the model of its session does not have")
    try:
        untuned = {int(label): int(count) for label, count in fields["zero_shot_by_class"]}
        told, images = fields["correct_by_routing"], tally.images
        return Recognised(
            images=images,
            tuned=tally.accuracy,
            zero_shot=fields["zero_shot_correct"] / images,
            top_5=tally.top_5_accuracy,
            uniform=told[UNIFORM_ROUTING] / images if keys else None,
            oracle=told[ORACLE_ROUTING] / images if keys else None,
            right_key=fields["routed_correct"] / images if keys else None,
            answers=answers(class_fields(tally, names, untuned), tally.confusion(len(names)).tolist(), names),
            keys=keys,
            routed=[[tally.keys[key] for key in range(len(keys))]] if keys else [],
        )
    except (KeyError, TypeError, ValueError):
        raise InvalidInput(f"{scored} is damaged: counts are missing") from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise InvalidInput(f"{path} is damaged or cannot be read") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} is damaged: it holds no counts")
    return found
