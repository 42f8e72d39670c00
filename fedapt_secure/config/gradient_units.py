"""Of what gradients are taken for a step: the words of it, where settings and sessions find them."""

from typing import Final, Literal

GradientUnits = Literal["text-features", "loss"]
"""``text-features``: of the loss over the logit scale, so that one learning rate fits every model. ``loss``:
of the loss itself, as papers state their learning rates."""
TEXT_FEATURES: Final = "text-features"
LOSS: Final = "loss"
