"""The finished model in one file: what was tuned, the keys, and which CLIP it belongs to.

Equal content gives equal bytes, so institutions can compare hashes of what they hold. The description
holds a SHA-256 of the whole file, taken with zeros in its own place, so that a damaged file is refused.
Whoever changes a file on purpose can compute it anew: who has to know where a file is from compares the
file's hash with the signed log (``session_ended``).
"""

import hashlib
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

from fedapt_crypto.decoding_cost import json_fits
from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.config.key_use import MULTIPLY, UNIFORM, KeyFusion, KeyUse, KeyValues
from fedapt_secure.config.model_identity import ModelIdentity
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.methods.base import Classifier, ClassifierParts
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.protocol.key_assignment import key_names
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.parameters import ParameterShape, Vector, check_key, check_vector, flatten

FORMAT_VERSION: Final = 6
OLDEST_FORMAT: Final = 3
"""Read still: such a bundle says nothing of its CLIP but the weights, up to 4 none has a prior weight,
and up to 5 keys are used as in the paper."""
MAX_BUNDLE_BYTES: Final = 1 << 30
MAX_HEADER_BYTES: Final = 4 << 20
"""Of what a bundle says about its tensors: names of classes and domains for the most part."""
_METADATA_KEY: Final = "fedapt-secure"  # one key alone: the order of several is not fixed by safetensors
_KEYS: Final = "keys"
_NO_DIGEST: Final = "0" * 64
_SAME_NAME: Final = (
    "zero_shot_template",
    "model",
    "pretrained",
    "weight_hash",
    "model_identity",
    "logit_scale",
    "logit_bias",
    "temperature",
    "prior_weight",
    "key_fusion",
    "key_values",
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
    key_domains: list[list[int]] = Field(min_length=1)
    zero_shot_template: str
    model: str
    pretrained: str | None
    weight_hash: str
    model_identity: ModelIdentity | None = None
    logit_scale: float
    logit_bias: float | None = None
    method: str
    temperature: float = Field(gt=0)
    prior_weight: float = Field(default=0.0, ge=0, le=1)
    key_fusion: KeyFusion = MULTIPLY
    key_values: KeyValues = UNIFORM
    text_width: int = Field(ge=1)
    feature_size: int = Field(ge=1)
    tower_values: int = Field(ge=0)
    context_tokens: int = Field(ge=1)
    class_specific: bool
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A finished model, without the CLIP it belongs to.

    Attributes:
        shape: Sizes, and which method it is of.
        parameters: The trained tensors, float32, by name.
        keys: Domain keys, float32, (K, n_ctx, W), values in [0, 1); ``None`` where the method uses none.
        class_names: M names.
        domains: Names of the domains that took part.
        key_domains: For each of the K keys the places in ``domains`` of those that it is for.
        zero_shot_template: Prompt of the untuned model.
        model: Name of the CLIP.
        pretrained: Its weights, as `load_backbone` takes them.
        weight_hash: SHA-256 of its weights.
        model_identity: What its features follow from besides them; ``None`` in a file of format 3.
        logit_scale: Its logit scale.
        logit_bias: What SigLIP's logits have added to them, which no softmax sees; ``None`` without.
        temperature: τ of the routing softmax.
        prior_weight: w, in [0, 1]: how much of the untuned CLIP the model keeps; see `methods.prior`.
        key_fusion, key_values: What keys do to the meta prompt, see `KeyUse`.
    """

    shape: ParameterShape
    parameters: Mapping[str, Vector]
    keys: Vector | None
    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    key_domains: tuple[tuple[int, ...], ...]
    zero_shot_template: str
    model: str
    pretrained: str | None
    weight_hash: str
    logit_scale: float
    temperature: float
    model_identity: ModelIdentity | None = None
    logit_bias: float | None = None
    prior_weight: float = 0.0
    key_fusion: KeyFusion = MULTIPLY
    key_values: KeyValues = UNIFORM

    def __post_init__(self) -> None:
        shape = self.shape
        places = set(range(len(self.domains)))
        expected = {part.name: part.shape for part in shape.parts}
        found = {name: values.shape for name, values in self.parameters.items()}
        counts = (len(self.class_names), len(self.key_domains))
        uses_keys = method_facts(shape.method).uses_keys
        if (
            found != expected
            or counts != (shape.classes, shape.domains)
            or uses_keys != (self.keys is not None)
            or not all(one and set(one) <= places for one in self.key_domains)
        ):
            raise InvalidInput("the bundle's parts do not fit each other")
        check_vector(shape, flatten(shape, self.parameters))
        if self.keys is not None and self.keys.shape != (shape.domains, *shape.key):
            raise InvalidInput("the bundle's parts do not fit each other")
        for key in () if self.keys is None else self.keys:
            check_key(shape, key)

    @property
    def model_hash(self) -> str | None:
        """SHA-256 (hex) over all that the CLIP's features follow from; ``None`` where it is not said."""
        return None if self.model_identity is None else self.model_identity.hash_with(self.weight_hash)

    @property
    def key_names(self) -> tuple[str, ...]:
        """What to call each key: after its domains."""
        return key_names(self.domains, self.key_domains)

    @property
    def own_keys(self) -> dict[str, frozenset[int]]:
        """The keys that serve each domain, by its name."""
        return {
            name: frozenset(key for key, domains in enumerate(self.key_domains) if place in domains)
            for place, name in enumerate(self.domains)
        }

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse another CLIP than that the bundle was tuned on.

        Raises:
            InvalidInput: If weights, activation, tokenizer, or how images are prepared differ; the answers
                would be meaningless.
        """
        if backbone.weight_hash != self.weight_hash:
            raise InvalidInput(
                f"the bundle was tuned on other weights than those of {backbone.name}: load {self.model}"
                f" with pretrained {self.pretrained} (SHA-256 {self.weight_hash[:16]}...)"
            )
        if self.model_identity is None:
            return
        differences = list(backbone.identity.differences(self.model_identity))
        if differences:
            said = "; ".join(f"{name} is {here}, the bundle's {there}" for name, here, there in differences)
            raise InvalidInput(
                f"the bundle was tuned on another {self.model} than the one here, though its weights are the"
                f" same: {said}"
            )

    def model_on(self, backbone: Backbone) -> Classifier:
        """Return the model that classifies features of ``backbone``.

        Raises:
            InvalidInput: If the backbone is another.
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
                prior_weight=self.prior_weight,
                key_use=KeyUse(self.key_fusion, self.key_values),
            )
        )


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the bundle as the bytes of a safetensors file; equal bundles give equal bytes."""
    sizes = asdict(bundle.shape)
    header = _Header(
        format_version=FORMAT_VERSION,
        class_names=list(bundle.class_names),
        domains=list(bundle.domains),
        key_domains=[list(one) for one in bundle.key_domains],
        **{name: getattr(bundle, name) for name in _SAME_NAME},
        **{name: sizes[name] for name in _FROM_SHAPE},
        sha256=_NO_DIGEST,
    )
    described = json.dumps(header.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    tensors = {name: np.ascontiguousarray(values) for name, values in bundle.parameters.items()}
    if bundle.keys is not None:
        tensors[_KEYS] = np.ascontiguousarray(bundle.keys)
    content = safetensors.numpy.save(tensors, {_METADATA_KEY: described})
    return _with_digest(content, _NO_DIGEST, hashlib.sha256(content).hexdigest())


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    """Return a file with another digest in its description, the only place that is written so."""
    return content.replace(_digest_field(old), _digest_field(new), 1)


def _digest_field(digest: str) -> bytes:
    # As JSON within JSON spells it: no class name can, for there a quotation mark takes more backslashes.
    return f'\\"sha256\\":\\"{digest}\\"'.encode()


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
        raise system_error(f"cannot write {path}", error) from None


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check all of it.

    Raises:
        InvalidInput: If the file cannot be read, was damaged, is malformed, or is of another version.
    """
    try:
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise InvalidInput(f"{path} is too large for a model bundle")
        content = path.read_bytes()
    except OSError as error:
        raise system_error(f"cannot read {path}", error) from None
    return decode_bundle(content, str(path))


def decode_bundle(content: bytes, source: str) -> Bundle:
    """Return the bundle that a file's bytes hold, after all checks.

    Args:
        content: The whole file.
        source: What to call it in an error.

    Raises:
        InvalidInput: If it was damaged, is malformed, or is of another version.
    """
    about = content[8 : 8 + min(int.from_bytes(content[:8], "little"), MAX_HEADER_BYTES + 1)]
    if len(about) > MAX_HEADER_BYTES or not json_fits(about):
        raise InvalidInput(f"{source} is not a model bundle: its description is too long")
    try:
        tensors: dict[str, NDArray[Any]] = safetensors.numpy.load(content)
        metadata = json.loads(about).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"{source} is not a model bundle, or only a part of one") from error
    header = _read_header(source, metadata)
    _check_digest(source, content, header.sha256)
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise InvalidInput(f"{source} is not a model bundle: it does not hold the expected tensors")
    keys = tensors.pop(_KEYS, None)
    try:
        return Bundle(
            shape=ParameterShape(
                classes=len(header.class_names),
                domains=len(header.key_domains),
                **header.model_dump(include=set(_FROM_SHAPE)),
            ),
            parameters=tensors,
            keys=keys,
            class_names=tuple(header.class_names),
            domains=tuple(header.domains),
            key_domains=tuple(tuple(one) for one in header.key_domains),
            **{name: getattr(header, name) for name in _SAME_NAME},
        )
    except InvalidInput as error:
        raise InvalidInput(f"{source} is not a usable model bundle: {error}") from None


def _check_digest(source: str, content: bytes, digest: str) -> None:
    cleared = _with_digest(content, digest, _NO_DIGEST)
    if hashlib.sha256(cleared).hexdigest() != digest:
        raise InvalidInput(f"{source} was changed or damaged after it was written: get it again")


def _read_header(source: str, metadata: dict[str, str]) -> _Header:
    try:
        described = json.loads(metadata[_METADATA_KEY])
        version = described["format_version"]
        if type(version) is int and not OLDEST_FORMAT <= version <= FORMAT_VERSION:
            advice = "update fedapt-secure" if version > FORMAT_VERSION else "fetch or make the model again"
            raise InvalidInput(
                f"{source} has bundle format {version}, this version reads {OLDEST_FORMAT} to"
                f" {FORMAT_VERSION}: {advice}"
            )
        # As JSON, which knows no tuples; strict otherwise.
        return _Header.model_validate_json(metadata[_METADATA_KEY])
    except (KeyError, TypeError, ValueError, ValidationError, RecursionError) as error:
        raise InvalidInput(
            f"{source} is not a model bundle: its description is missing or damaged"
        ) from error
