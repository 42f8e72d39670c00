"""A method's trained tensors as one flat float32 vector, in the order of `methods`.

This is the vector that institutions update and the coordinator adds up, so its layout is part of the
protocol. No torch here: the coordinator needs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.methods import FEDAPT, Part, method_facts

Vector = NDArray[np.float32]

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
        method: Which method's tensors.
        tower_values: Number of values of the image tower, for methods that train it.
    """

    classes: int
    context_tokens: int
    text_width: int
    feature_size: int
    domains: int
    class_specific: bool = True
    method: str = FEDAPT
    tower_values: int = 0

    @property
    def meta_prompt(self) -> tuple[int, ...]:
        """Shape of the learned context: (M, n_ctx, W), or (n_ctx, W) where it is shared."""
        context = (self.context_tokens, self.text_width)
        return (self.classes, *context) if self.class_specific else context

    @property
    def key(self) -> tuple[int, int]:
        """Shape of one domain key: (n_ctx, W)."""
        return (self.context_tokens, self.text_width)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The trained tensors, in order."""
        return method_facts(self.method).parts(self)

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(part.size for part in self.parts)


def flatten(shape: ParameterShape, parts: Mapping[str, Vector]) -> Vector:
    """Return the trained tensors, by name, as one flat float32 vector."""
    nothing = np.zeros(0, np.float32)  # for methods that train nothing
    values = (parts[part.name].ravel() for part in shape.parts)
    return np.concatenate([nothing, *values]).astype(np.float32, copy=False)


def unflatten(shape: ParameterShape, vector: Vector) -> dict[str, Vector]:
    """Split a flat vector into copies of the trained tensors.

    Raises:
        InvalidInput: If the length does not fit ``shape``, or a value is not finite or out of range.
    """
    check_vector(shape, vector)
    found, start = {}, 0
    for part in shape.parts:
        found[part.name] = vector[start : start + part.size].reshape(part.shape).copy()
        start += part.size
    return found


def check_vector(shape: ParameterShape, vector: Vector) -> None:
    """Refuse a vector of parameters that cannot come from an honest run.

    Raises:
        InvalidInput: If the length does not fit, or a value is not finite or out of range.
    """
    if vector.shape != (shape.size,) or vector.dtype != np.float32:
        raise InvalidInput(f"the model has {vector.size} values where {shape.size} float32 are expected")
    if not np.isfinite(vector).all() or np.abs(vector).max(initial=0.0) > MAX_ABSOLUTE_PARAMETER:
        raise InvalidInput("the model holds values that are not finite or out of range; not used")


def check_key(shape: ParameterShape, key: Vector) -> None:
    """Refuse a domain key that the agreed expansion of a seed cannot give.

    Raises:
        InvalidInput: If the shape is wrong or a value lies outside [0, 1). A key of -1, say, would make
            the institution's update empty and so single out the others.
    """
    if key.shape != shape.key or key.dtype != np.float32:
        raise InvalidInput(f"the domain key has shape {key.shape} where float32 {shape.key} is expected")
    if not ((key >= 0) & (key < 1)).all():  # false for NaN as well
        raise InvalidInput("the domain key holds values outside [0, 1); not used")


def initial_parameters(shape: ParameterShape, seed: int, words: Vector | None = None) -> Vector:
    """Draw the first parameters, each part with its own deviation, the same for a seed on every machine.

    Args:
        shape: Sizes.
        seed: Of the draw.
        words: Token embeddings, (T, W), that contexts start with, T at most n_ctx; by default none.
    """
    rng = np.random.default_rng(seed)
    drawn = [np.zeros(0)]
    for part in shape.parts:
        values = rng.normal(0.0, part.initial_std, part.size) if part.initial_std else np.zeros(part.size)
        if words is not None and part.is_context:
            values.reshape(part.shape)[..., : len(words), :] = words
        drawn.append(values)
    return np.concatenate(drawn).astype(np.float32)
