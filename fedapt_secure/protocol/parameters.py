"""The shared parameters of FedAPT as one flat float32 vector: meta prompt, then adaptive network.

This is the vector that institutions update and the coordinator adds up, so its layout is part of the
protocol. No torch here: the coordinator needs none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput

Vector = NDArray[np.float32]

INITIAL_STD = 0.02
"""Standard deviation of the initial meta prompt and adaptive network (FedAPT, reference code)."""
MAX_ABSOLUTE_PARAMETER = 1e4
"""Parameters from outside beyond this are refused: no training run gets near it."""


@dataclass(frozen=True)
class ParameterShape:
    """Sizes of the trained module.

    Attributes:
        classes: M, number of classes.
        context_tokens: n_ctx, learned tokens before the class name.
        text_width: W, width of the text tower.
        feature_size: D, size of the joint embedding.
        domains: K, number of domain keys.
        class_specific: One context a class (the paper's) or one shared by all.
    """

    classes: int
    context_tokens: int
    text_width: int
    feature_size: int
    domains: int
    class_specific: bool = True

    @property
    def meta_prompt(self) -> tuple[int, ...]:
        """Shape of the meta prompt: (M, n_ctx, W), or (n_ctx, W) where the context is shared."""
        context = (self.context_tokens, self.text_width)
        return (self.classes, *context) if self.class_specific else context

    @property
    def adaptive_network(self) -> tuple[int, int]:
        """Shape of the adaptive network: (K, D)."""
        return (self.domains, self.feature_size)

    @property
    def key(self) -> tuple[int, int]:
        """Shape of one domain key: (n_ctx, W)."""
        return (self.context_tokens, self.text_width)

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return int(np.prod(self.meta_prompt)) + self.domains * self.feature_size


def flatten(meta_prompt: Vector, adaptive_network: Vector) -> Vector:
    """Return both parts as one flat float32 vector, meta prompt first."""
    return np.concatenate([meta_prompt.ravel(), adaptive_network.ravel()]).astype(np.float32, copy=False)


def unflatten(shape: ParameterShape, vector: Vector) -> tuple[Vector, Vector]:
    """Split a flat vector into copies of the meta prompt and the adaptive network.

    Raises:
        InvalidInput: If the length does not fit ``shape``, or a value is not finite or out of range.
    """
    check_vector(shape, vector)
    cut = shape.size - shape.domains * shape.feature_size
    return vector[:cut].reshape(shape.meta_prompt).copy(), vector[cut:].reshape(shape.adaptive_network).copy()


def check_vector(shape: ParameterShape, vector: Vector) -> None:
    """Refuse a vector of parameters that cannot come from an honest run.

    Raises:
        InvalidInput: If the length does not fit, or a value is not finite or out of range.
    """
    if vector.shape != (shape.size,) or vector.dtype != np.float32:
        raise InvalidInput(f"the model has {vector.size} values where {shape.size} float32 are expected")
    if not np.isfinite(vector).all() or np.abs(vector).max(initial=0.0) > MAX_ABSOLUTE_PARAMETER:
        raise InvalidInput("the model holds values that are not finite or out of range; not used")


def initial_parameters(shape: ParameterShape, seed: int) -> Vector:
    """Draw the first parameters, N(0, 0.02²), the same for the same seed on every machine."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, INITIAL_STD, shape.size).astype(np.float32)
