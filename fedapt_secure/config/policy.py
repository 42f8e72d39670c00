"""The institution's policy, ``policy.yaml``: what no coordinator can talk it into."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import Settings, build, read_yaml
from fedapt_secure.privacy.composition import Allowance, CompositionRule
from fedapt_secure.privacy.unit import UnitRule

POLICY_FILE: Final = "policy.yaml"

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scheme = Literal["masking", "ckks", "none"]
LARGEST_MESSAGE_BYTES: Final = 64 << 20
"""More than this no version of the protocol sends in one message."""
LEAST_MESSAGE_BYTES: Final = 1 << 16
"""With less not even a session could be offered."""
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")


class Policy(Settings):
    """What ``policy.yaml`` says; the defaults are those of an institution that has not written one.

    Attributes:
        max_epsilon: Largest ε for the images of one data set, over all sessions, ever.
        max_delta: Largest δ, likewise.
        composition: How sessions add up: ``sum`` of their planned (ε, δ), or ``rdp-filter``. Chosen before
            the first session on a data set and kept.
        rdp_order: Rényi order α of the filter; by default the one that suits (max_epsilon, max_delta).
        privacy_unit: ``any``, or ``person``: refuse private sessions on images whose subjects are not known.
        require_differential_privacy: Refuse sessions without it, and noise that a seed decides.
        aggregation: Schemes that are allowed. ``ckks`` tolerates no collusion; under ``none`` the
            coordinator sees every update.
        minimum_participants: Smallest roster and smallest survivor set this institution contributes to.
        share_metrics: ``no``, or ``masked``: held-out results may leave as masked sums.
        coordinators: Fingerprints of the coordinators that may offer sessions; empty for the one that this
            institution enrolled with.
        max_message_bytes: Largest message that is taken from a coordinator.
        unattended: Whether a session that keeps all other rules is joined without a person's approval.
    """

    max_epsilon: PositiveFloat = 8.0
    max_delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    composition: CompositionRule = "sum"
    rdp_order: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    privacy_unit: UnitRule = "any"
    require_differential_privacy: bool = True
    aggregation: Annotated[tuple[Scheme, ...], Field(min_length=1)] = ("masking",)
    minimum_participants: Annotated[int, Field(ge=1)] = 3
    share_metrics: Literal["no", "masked"] = "no"
    coordinators: tuple[str, ...] = ()
    max_message_bytes: Annotated[int, Field(ge=LEAST_MESSAGE_BYTES, le=LARGEST_MESSAGE_BYTES)] = (
        LARGEST_MESSAGE_BYTES
    )
    unattended: Annotated[bool, Field(strict=True)] = False

    @field_validator("share_metrics", mode="before")
    @classmethod
    def _spelled_out(cls, value: object) -> object:
        return "no" if value is False else value  # YAML reads a bare no as false

    @field_validator("coordinators")
    @classmethod
    def _fingerprints(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_fingerprint(entry) for entry in entries)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rdp_order is not None and self.composition != "rdp-filter":
            raise ValueError("rdp_order goes with composition rdp-filter only")
        if len(set(self.aggregation)) != len(self.aggregation):
            raise ValueError("aggregation names a scheme twice")
        try:
            _ = self.allowance
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def allowance(self) -> Allowance:
        """Figures and rule for what sessions may cost together."""
        return Allowance(self.max_epsilon, self.max_delta, self.composition, self.rdp_order)

    def to_body(self) -> dict[str, Any]:
        """Return the policy as logs state it: canonical content, with the order that is really used."""
        fields = self.model_dump(mode="json")
        fields["rdp_order"] = self.allowance.order if self.composition == "rdp-filter" else None
        fields["aggregation"] = sorted(self.aggregation)
        fields["coordinators"] = sorted(set(self.coordinators))
        return fields

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical content (JSON, sorted keys, no spaces), hexadecimal."""
        content = json.dumps(self.to_body(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(content.encode()).hexdigest()


def _fingerprint(text: str) -> str:
    """Return a fingerprint as it is shown, in groups of four, however it was typed."""
    digits = "".join(text.split()).lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError(f"{text!r} is not a fingerprint: eight groups of four hexadecimal digits")
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def read_policy(path: Path) -> tuple[Policy, bool]:
    """Return the policy of a file, and whether there is such a file; without one the defaults hold.

    Raises:
        InvalidInput: If it is there and cannot be used: then nothing runs, rather than under defaults.
    """
    if not path.exists() and not path.is_symlink():
        return Policy(), False
    return build(Policy, read_yaml(path), source=str(path)), True
