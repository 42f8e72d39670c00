"""The work of ``fedapt-secure model-info``: a CLIP's facts as session.yaml spells them."""

from dataclasses import dataclass
from typing import Any, Final

import yaml

from fedapt_secure.config.model_identity import Activation
from fedapt_secure.learning.clip.backbone import Backbone, load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.process.streams import say, say_json, say_lines

_BESIDES: Final = (
    "model_hash",
    "text_tower",
    "logit_scale",
    "logit_bias",
    "context_length",
    "image_tower_parameters",
    "parameters",
)


@dataclass(frozen=True)
class _Facts:
    session: dict[str, Any]
    others: dict[str, Any]


def print_model(
    model: str,
    pretrained: str | None,
    activation: Activation | None,
    words: str | None,
    *,
    as_json: bool,
) -> None:
    """Load a CLIP and print its facts.

    Args:
        model: Its name.
        pretrained: Its weights, as `load_backbone` takes them.
        activation: Where nobody knows it.
        words: Words that contexts are to start from; their embeddings are printed too.
        as_json: Print JSON.

    Raises:
        InvalidInput: If it cannot be loaded, or the words cannot start a context.
    """
    backbone = load_backbone(model, pretrained, activation=activation)
    facts = _facts(backbone)
    if words is not None:
        facts.session["initial_context"] = initial_context(backbone, words).model_dump()
    if as_json:
        say_json(facts.session | facts.others)
        return
    say("# For session.yaml. Every institution needs this model, and compares all of it.")
    say_lines(
        yaml.safe_dump(facts.session, sort_keys=False, width=4096, default_flow_style=None).rstrip("\n")
    )
    say("# Only for methods that train the image tower (fedavg, fedprox); 0 for all others:")
    say(f"# tower_values: {facts.others['tower_values']}")
    say("# Besides:")
    for name in _BESIDES:
        if facts.others[name] is not None:
            say(f"# {name}: {facts.others[name]}")


def _facts(backbone: Backbone) -> _Facts:
    return _Facts(
        session={
            "model": backbone.name,
            "pretrained": backbone.pretrained,
            "weight_hash": backbone.weight_hash,
            "model_identity": backbone.identity.model_dump(mode="json"),
            "text_width": backbone.text_width,
            "feature_size": backbone.feature_size,
        },
        others={
            "model_hash": backbone.model_hash,
            "text_tower": backbone.text_tower.kind,
            "tower_values": backbone.image_tower_values,
            "logit_scale": backbone.logit_scale,
            "logit_bias": backbone.logit_bias,
            "context_length": backbone.context_length,
            "image_tower_parameters": backbone.image_tower_values,
            "parameters": backbone.parameter_count,
        },
    )
