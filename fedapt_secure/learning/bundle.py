"""The finished model in one file: what was tuned, the keys, and which CLIP it belongs to.

Equal content gives equal bytes, so institutions can compare hashes of what they hold.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.backbone import Backbone
from fedapt_secure.learning.fedapt import TEMPERATURE
from fedapt_secure.learning.methods.base import Classifier, ClassifierParts
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.protocol.methods import FEDAPT, method_facts
from fedapt_secure.protocol.parameters import ParameterShape, Vector, check_key, check_vector, flatten

FORMAT_VERSION: Final = 2
MAX_BUNDLE_BYTES: Final = 1 << 30
_METADATA_KEY: Final = "fedapt-secure"  # one key alone: the order of several is not fixed by safetensors
_KEYS: Final = "keys"
_SAME_NAME: Final = (
    "zero_shot_template",
    "model",
    "pretrained",
    "weight_hash",
    "logit_scale",
    "temperature",
)
_FROM_SHAPE: Final = (
    "method",
    "text_width",
    "feature_size",
    "tower_values",
    "context_tokens",
    "class_specific",
)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format_version: int
    class_names: list[str] = Field(min_length=1)
    domains: list[str] = Field(min_length=1)
    zero_shot_template: str
    model: str
    pretrained: str | None
    weight_hash: str
    logit_scale: float
    method: str = FEDAPT  # version 1 knew no other
    temperature: float = Field(default=TEMPERATURE, gt=0)
    text_width: int | None = None  # version 1 had it in its tensors alone
    feature_size: int | None = None
    tower_values: int = 0
    context_tokens: int = Field(ge=1)
    class_specific: bool


@dataclass(frozen=True, eq=False)
class Bundle:
    """A finished model, without the CLIP it belongs to.

    Attributes:
        shape: Sizes, and which method it is of.
        parameters: The trained tensors, float32, by name.
        keys: Domain keys, float32, (K, n_ctx, W), values in [0, 1); ``None`` where the method uses none.
        class_names: M names.
        domains: K names.
        zero_shot_template: Prompt of the untuned model.
        model: Name of the CLIP.
        pretrained: Its weights, as `load_backbone` takes them.
        weight_hash: SHA-256 of its weights.
        logit_scale: Its logit scale.
        temperature: τ of the routing softmax.
    """

    shape: ParameterShape
    parameters: Mapping[str, Vector]
    keys: Vector | None
    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    zero_shot_template: str
    model: str
    pretrained: str | None
    weight_hash: str
    logit_scale: float
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        shape = self.shape
        expected = {part.name: part.shape for part in shape.parts}
        found = {name: values.shape for name, values in self.parameters.items()}
        counts = (len(self.class_names), len(self.domains))
        uses_keys = method_facts(shape.method).uses_keys
        if (
            found != expected
            or counts != (shape.classes, shape.domains)
            or uses_keys != (self.keys is not None)
        ):
            raise InvalidInput("the bundle's parts do not fit each other")
        check_vector(shape, flatten(shape, self.parameters))
        if self.keys is not None and self.keys.shape != (shape.domains, *shape.key):
            raise InvalidInput("the bundle's parts do not fit each other")
        for key in () if self.keys is None else self.keys:
            check_key(shape, key)

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a CLIP with other weights than those the bundle was tuned on.

        Raises:
            InvalidInput: If the weights differ; the answers would be meaningless.
        """
        if backbone.weight_hash != self.weight_hash:
            raise InvalidInput(
                f"the bundle was tuned on other weights than those of {backbone.name}: load {self.model}"
                f" with pretrained {self.pretrained} (SHA-256 {self.weight_hash[:16]}...)"
            )

    def model_on(self, backbone: Backbone) -> Classifier:
        """Return the model that classifies features of ``backbone``.

        Raises:
            InvalidInput: If the backbone has other weights.
        """
        self.check_backbone(backbone)
        keys = self.keys if self.keys is not None else np.zeros((0, *self.shape.key), np.float32)
        return method_of(self.shape.method).classifier(
            ClassifierParts(
                backbone=backbone,
                class_names=self.class_names,
                shape=self.shape,
                template=self.zero_shot_template,
                parameters={name: torch.from_numpy(values) for name, values in self.parameters.items()},
                keys=torch.from_numpy(keys),
                temperature=self.temperature,
            )
        )


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the bundle as the bytes of a safetensors file; equal bundles give equal bytes."""
    sizes = asdict(bundle.shape)
    header = _Header(
        format_version=FORMAT_VERSION,
        class_names=list(bundle.class_names),
        domains=list(bundle.domains),
        **{name: getattr(bundle, name) for name in _SAME_NAME},
        **{name: sizes[name] for name in _FROM_SHAPE},
    )
    described = json.dumps(header.model_dump(), sort_keys=True, separators=(",", ":"))
    tensors = {name: np.ascontiguousarray(values) for name, values in bundle.parameters.items()}
    if bundle.keys is not None:
        tensors[_KEYS] = np.ascontiguousarray(bundle.keys)
    return safetensors.numpy.save(tensors, {_METADATA_KEY: described})


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write the bundle to a file, in one step: there is never half a file.

    Raises:
        InvalidInput: If the file cannot be written.
    """
    content = encode_bundle(bundle)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from error


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check all of it.

    Raises:
        InvalidInput: If the file cannot be read, is malformed, or comes from a newer version.
    """
    try:
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise InvalidInput(f"{path} is too large for a model bundle")
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or 'not a readable file'}") from error
    except (safetensors.SafetensorError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is not a model bundle") from error
    header = _read_header(path, metadata)
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise InvalidInput(f"{path} is not a model bundle: it does not hold the expected tensors")
    keys = tensors.pop(_KEYS, None)
    try:
        return Bundle(
            shape=_shape(header, tensors, keys),
            parameters=tensors,
            keys=keys,
            class_names=tuple(header.class_names),
            domains=tuple(header.domains),
            **header.model_dump(include=set(_SAME_NAME)),
        )
    except InvalidInput as error:
        raise InvalidInput(f"{path} is not a usable model bundle: {error}") from None


def _shape(header: _Header, tensors: dict[str, NDArray[Any]], keys: NDArray[Any] | None) -> ParameterShape:
    """Return the sizes that the header states, or that version 1 leaves to its tensors."""
    text_width, feature_size = header.text_width, header.feature_size
    if text_width is None or feature_size is None:
        network = tensors.get("adaptive_network")
        if keys is None or network is None or keys.ndim != 3 or network.ndim != 2:
            raise InvalidInput("it does not hold the expected tensors")
        text_width, feature_size = keys.shape[2], network.shape[1]
    return ParameterShape(
        classes=len(header.class_names),
        domains=len(header.domains),
        text_width=text_width,
        feature_size=feature_size,
        **header.model_dump(include={"method", "tower_values", "context_tokens", "class_specific"}),
    )


def _read_header(path: Path, metadata: dict[str, str]) -> _Header:
    try:
        described = json.loads(metadata[_METADATA_KEY])
        version = described["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InvalidInput(
                f"{path} has format {version}, this version reads up to {FORMAT_VERSION}: update"
            )
        return _Header.model_validate(described)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InvalidInput(f"{path} is not a model bundle: its description is missing or damaged") from error
