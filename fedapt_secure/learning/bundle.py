"""The finished model in one file: what was tuned, the keys, and which CLIP it belongs to.

Equal content gives equal bytes, so institutions can compare hashes of what they hold.
"""

import json
import os
import tempfile
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
from fedapt_secure.learning.fedapt import FedAptModel
from fedapt_secure.learning.text import PromptedText
from fedapt_secure.learning.training import check_key
from fedapt_secure.protocol.parameters import ParameterShape, Vector, check_vector, flatten

FORMAT_VERSION: Final = 1
MAX_BUNDLE_BYTES: Final = 1 << 30
_METADATA_KEY: Final = "fedapt-secure"  # one key alone: the order of several is not fixed by safetensors
_TENSORS: Final = frozenset({"meta_prompt", "adaptive_network", "keys"})


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
    context_tokens: int = Field(ge=1)
    class_specific: bool


@dataclass(frozen=True, eq=False)
class Bundle:
    """A finished model, without the CLIP it belongs to.

    Attributes:
        meta_prompt: P, float32, (M, n_ctx, W) or (n_ctx, W).
        adaptive_network: Q, float32, (K, D).
        keys: Domain keys, float32, (K, n_ctx, W), values in [0, 1).
        class_names: M names.
        domains: K names.
        zero_shot_template: Prompt of the untuned model.
        model: Name of the CLIP.
        pretrained: Its weights, as `load_backbone` takes them.
        weight_hash: SHA-256 of its weights.
        logit_scale: Its logit scale.
    """

    meta_prompt: Vector
    adaptive_network: Vector
    keys: Vector
    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    zero_shot_template: str
    model: str
    pretrained: str | None
    weight_hash: str
    logit_scale: float

    def __post_init__(self) -> None:
        sizes = (self.meta_prompt.ndim in {2, 3}, self.adaptive_network.ndim == 2, self.keys.ndim == 3)
        if not all(sizes) or len(self.keys) != len(self.domains):
            raise InvalidInput("the bundle's parts do not fit each other")
        if self.meta_prompt.shape != self.shape.meta_prompt or len(self.adaptive_network) != len(self.keys):
            raise InvalidInput("the bundle's parts do not fit each other")
        check_vector(self.shape, flatten(self.meta_prompt, self.adaptive_network))
        for key in self.keys:
            check_key(self.shape, key)

    @property
    def shape(self) -> ParameterShape:
        """Sizes of the tuned parts."""
        return ParameterShape(
            classes=len(self.class_names),
            context_tokens=self.keys.shape[1],
            text_width=self.keys.shape[2],
            feature_size=self.adaptive_network.shape[1],
            domains=len(self.domains),
            class_specific=self.meta_prompt.ndim == 3,
        )

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

    def model_on(self, backbone: Backbone) -> FedAptModel:
        """Return the model that classifies features of ``backbone``.

        Raises:
            InvalidInput: If the backbone has other weights.
        """
        self.check_backbone(backbone)
        shape = self.shape
        return FedAptModel(
            text=PromptedText(backbone, self.class_names, shape.context_tokens, shape.class_specific),
            meta_prompt=torch.from_numpy(self.meta_prompt),
            adaptive_network=torch.from_numpy(self.adaptive_network),
            keys=torch.from_numpy(self.keys),
        )


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the bundle as the bytes of a safetensors file; equal bundles give equal bytes."""
    header = _Header(
        format_version=FORMAT_VERSION,
        context_tokens=bundle.shape.context_tokens,
        class_specific=bundle.shape.class_specific,
        class_names=list(bundle.class_names),
        domains=list(bundle.domains),
        **{
            name: value
            for name, value in asdict(bundle).items()
            if name in _Header.model_fields and name not in {"class_names", "domains"}
        },
    )
    described = json.dumps(header.model_dump(), sort_keys=True, separators=(",", ":"))
    tensors = {name: np.ascontiguousarray(getattr(bundle, name)) for name in _TENSORS}
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
    if tensors.keys() != _TENSORS or any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise InvalidInput(f"{path} is not a model bundle: it does not hold the expected tensors")
    bundle = Bundle(
        meta_prompt=tensors["meta_prompt"],
        adaptive_network=tensors["adaptive_network"],
        keys=tensors["keys"],
        class_names=tuple(header.class_names),
        domains=tuple(header.domains),
        **header.model_dump(
            include={"zero_shot_template", "model", "pretrained", "weight_hash", "logit_scale"}
        ),
    )
    if (bundle.shape.context_tokens, bundle.shape.class_specific) != (
        header.context_tokens,
        header.class_specific,
    ):
        raise InvalidInput(f"{path} is not a model bundle: its description does not fit its tensors")
    return bundle


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
