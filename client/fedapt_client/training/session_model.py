"""A session's CLIP, checked against its plan, and its finished bundle."""

import numpy as np

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.bundle import Bundle
from fedapt_secure.learning.clip.backbone import Backbone, choose_precision, load_backbone
from fedapt_secure.learning.clip.device import resolve_device
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.parameters import Vector, unflatten
from fedapt_secure.protocol.reasons import Reason, told_as
from fedapt_secure.protocol.session import SessionConfiguration


def make_bundle(
    configuration: SessionConfiguration, backbone: Backbone, model: Vector, keys: tuple[Vector, ...]
) -> Bundle:
    """Return a session's finished bundle: equal at everyone who holds its model and all domain keys."""
    plan = configuration.plan
    return Bundle(
        shape=plan.shape,
        parameters=unflatten(plan.shape, model),
        keys=np.stack(keys) if method_facts(plan.method).uses_keys else None,
        class_names=plan.class_names,
        domains=plan.domains,
        key_domains=configuration.key_domains,
        zero_shot_template=plan.zero_shot_template,
        model=plan.model,
        pretrained=plan.pretrained,
        weight_hash=plan.weight_hash,
        model_identity=plan.model_identity,
        logit_scale=backbone.logit_scale,
        logit_bias=backbone.logit_bias,
        temperature=plan.temperature,
        prior_weight=configuration.prior_weight,
        key_fusion=plan.key_fusion,
        key_values=plan.key_values,
    )


def session_backbone(configuration: SessionConfiguration, device: str, precision: str) -> Backbone:
    """Load the session's CLIP; raises `InvalidInput` where what is here is not the session's.

    Args:
        configuration: The session.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``float32`` or ``bfloat16``.
    """
    plan = configuration.plan
    with told_as(Reason.DEVICE_UNUSABLE):
        place = resolve_device(device)
    backbone = load_backbone(
        plan.model,
        plan.pretrained,
        place,
        choose_precision(precision, place, plan.model),
        plan.model_identity.activation,
    )
    with told_as(Reason.MODEL_DIFFERS):
        if backbone.weight_hash != plan.weight_hash:
            raise InvalidInput(
                f"the weights of {plan.model} here are not the session's: compare the files' SHA-256 with the"
                " coordinator's operator"
            )
        differences = list(backbone.identity.differences(plan.model_identity))
        if differences:
            said = "; ".join(f"{name} is {here}, the session's {there}" for name, here, there in differences)
            raise InvalidInput(
                f"{plan.model} here is not the session's, though its weights are: {said}: get the model from"
                " where the coordinator's operator has it, with its configuration and tokenizer"
            )
        sizes = (backbone.feature_size, backbone.text_width)
        if sizes != (plan.feature_size, plan.text_width):
            raise InvalidInput(f"{plan.model} here has other sizes than the session says")
    return backbone
