"""The work of ``fedapt-secure model-info``: a CLIP's facts as session.yaml spells them."""

from dataclasses import dataclass
from typing import Any

import yaml

from fedapt_secure.learning.clip.backbone import Backbone, load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.process.streams import say, say_json, say_lines


@dataclass(frozen=True)
class _Facts:
    session: dict[str, Any]
    others: dict[str, Any]


def print_model(model: str, pretrained: str | None, words: str | None, *, as_json: bool) -> None:
    """Load a CLIP and print its facts, with the embeddings of words that contexts are to start from.

    Raises:
        InvalidInput: If it cannot be loaded, or the words cannot start a context.
    """
    backbone = load_backbone(model, pretrained)
    facts = _facts(backbone)
    if words is not None:
        facts.session["initial_context"] = initial_context(backbone, words).model_dump()
    if as_json:
        say_json(facts.session | facts.others)
        return
    say("# For session.yaml. Every institution needs these weights, and compares their hash.")
    say_lines(yaml.safe_dump(facts.session, sort_keys=False, width=4096).rstrip("\n"))
    say("# Only for methods that train the image tower (fedavg, fedprox); 0 for all others:")
    say(f"# tower_values: {facts.others['tower_values']}")
    say("# Besides:")
    for name in ("logit_scale", "context_length", "image_tower_parameters", "parameters"):
        say(f"# {name}: {facts.others[name]}")


def _facts(backbone: Backbone) -> _Facts:
    return _Facts(
        session={
            "model": backbone.name,
            "pretrained": backbone.pretrained,
            "weight_hash": backbone.weight_hash,
            "text_width": backbone.text_width,
            "feature_size": backbone.feature_size,
        },
        others={
            "tower_values": backbone.image_tower_values,
            "logit_scale": backbone.logit_scale,
            "context_length": backbone.context_length,
            "image_tower_parameters": backbone.image_tower_values,
            "parameters": backbone.parameter_count,
        },
    )
