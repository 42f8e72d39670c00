"""The institution's policy, ``policy.yaml``: what no coordinator can talk it into."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import FINGERPRINT_BITS
from fedapt_secure.config import ranges
from fedapt_secure.config.ranges import USUAL_MESSAGE_BYTES
from fedapt_secure.config.settings import SessionDelta, Settings, build, read_yaml
from fedapt_secure.privacy.budget import LARGEST_DELTA
from fedapt_secure.privacy.composition import Allowance, CompositionRule, Rule
from fedapt_secure.privacy.unit import UnitRule

POLICY_FILE: Final = "policy.yaml"
MAX_UNUSED_RULE: Final = "max_unused in the policy"

DEFAULT_RULE: Final = "rdp-filter"
SESSIONS_BY_DEFAULT: Final = 4
"""Into so many shares a policy divides what it allows, where it does not say how large one may be."""
Scheme = Literal["masking", "ckks", "none"]
_FINGERPRINT: Final = re.compile(rf"[0-9a-f]{{{FINGERPRINT_BITS // 4}}}")


class Policy(Settings):
    """What ``policy.yaml`` says; the defaults are those of an institution that has not written one.

    Attributes:
        max_epsilon: Largest ε for the images of one data set, over all sessions, ever.
        max_delta: Largest δ, likewise.
        session_epsilon, session_delta: The largest ε and δ that one session may plan; by default a quarter
            of the totals.
        composition: How sessions add up: ``rdp-filter``, or ``sum`` of their planned (ε, δ). Fixed for a data
            set with its first session: ``None`` leaves each data set its own, and gives new ones the filter.
        rdp_order: Rényi order α of the filter, fixed likewise; ``None`` gives new data sets the one that
            suits (max_epsilon, max_delta).
        privacy_unit: ``any``, or ``person``: refuse private sessions on images whose subjects are not known.
        require_differential_privacy: Refuse sessions without it, and noise that a seed decides.
        aggregation: Schemes that are allowed. ``ckks`` tolerates no collusion; under ``none`` the
            coordinator sees every update.
        minimum_participants: Smallest roster and smallest survivor set this institution contributes to.
        minimum_institutions_per_key: Smallest number of institutions, this one among them, that hold its
            domain key in every single sum that it contributes to, where updates are added up under a scheme.
            2 and as many as may be in league with the coordinator; 1 where its own noise is to suffice.
        minimum_records: Smallest number of training images with which this institution takes part.
        minimum_persons: Smallest number of persons with training images, where images say whose they are;
            0 for either asks for none.
        max_unused: The largest share of files below the data folder that are not used, whatever the reason;
            above it something is wrong with them, and no session is joined.
        share_metrics: ``no``, or ``masked``: held-out results may leave as masked sums.
        coordinators: Fingerprints of the coordinators that may offer sessions; empty for the one that this
            institution enrolled with.
        max_message_bytes: Largest message that is taken from a coordinator. A session with larger ones is
            refused before it is joined.
        unattended: Whether a session that keeps all other rules is joined without a person's approval.
    """

    max_epsilon: Annotated[float, ranges.EPSILON] = 8.0
    max_delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    session_epsilon: Annotated[float, ranges.EPSILON] | None = None
    session_delta: SessionDelta | None = None
    composition: CompositionRule | None = None
    rdp_order: Annotated[float, ranges.RDP_ORDER] | None = None
    privacy_unit: UnitRule = "any"
    require_differential_privacy: bool = True
    aggregation: Annotated[tuple[Scheme, ...], Field(min_length=1)] = ("masking",)
    minimum_participants: Annotated[int, ranges.MINIMUM_PARTICIPANTS] = 3
    minimum_institutions_per_key: Annotated[int, ranges.MINIMUM_PARTICIPANTS] = 3
    minimum_records: Annotated[int, ranges.LEAST_OF_RECORDS] = 50
    minimum_persons: Annotated[int, ranges.LEAST_OF_RECORDS] = 20
    max_unused: Annotated[float, ranges.UNUSED_SHARE] = 0.2
    share_metrics: Literal["no", "masked"] = "no"
    coordinators: tuple[str, ...] = ()
    max_message_bytes: Annotated[int, ranges.MESSAGE_FROM_COORDINATOR] = USUAL_MESSAGE_BYTES
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
        if self.rdp_order is not None and self.composition == "sum":
            raise ValueError("rdp_order goes with composition rdp-filter only")
        if (self.session_epsilon or 0) > self.max_epsilon:
            raise ValueError("session_epsilon, for one session, is above max_epsilon, for all of them")
        if (self.session_delta or 0) > self.max_delta:
            raise ValueError("session_delta, for one session, is above max_delta, for all of them")
        if len(set(self.aggregation)) != len(self.aggregation):
            raise ValueError("aggregation names a scheme twice")
        try:
            _ = self.allowance
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def allowance(self) -> Allowance:
        """Figures and rule for what sessions may cost together, the rule being that of new data sets."""
        return Allowance(
            max_epsilon=self.max_epsilon,
            max_delta=self.max_delta,
            composition=self.composition or DEFAULT_RULE,
            rdp_order=self.rdp_order,
            session_epsilon=self.session_epsilon or self.max_epsilon / SESSIONS_BY_DEFAULT,
            session_delta=self.session_delta or min(self.max_delta / SESSIONS_BY_DEFAULT, LARGEST_DELTA),
        )

    def keeps(self, rule: Rule) -> bool:
        """Return whether this policy lets a data set keep the rule that its first session fixed."""
        composition, order = rule
        named = self.composition is None or self.composition == composition
        return named and (order is None or self.rdp_order in (None, order))

    def to_body(self) -> dict[str, Any]:
        """Return the policy as logs state it: canonical content, with the figures that are really used.

        ``named`` are the entries of the rule that the policy fixes for every data set, also older ones.
        """
        fields = self.model_dump(mode="json")
        allowance = self.allowance
        fields["session_epsilon"], fields["session_delta"] = (
            allowance.session_epsilon,
            allowance.session_delta,
        )
        fields["composition"], fields["rdp_order"] = allowance.rule
        rule = {"composition": self.composition, "rdp_order": self.rdp_order}
        fields["named"] = [name for name, value in rule.items() if value is not None]
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
        raise ValueError(f"{text!r} is not a fingerprint: ten groups of four hexadecimal digits")
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def read_policy(path: Path) -> tuple[Policy, bool]:
    """Return the policy of a file, and whether there is such a file; without one the defaults hold.

    Raises:
        InvalidInput: If it is there and cannot be used: then nothing runs, rather than under defaults.
    """
    if not path.exists() and not path.is_symlink():
        return Policy(), False
    return build(Policy, read_yaml(path), source=str(path)), True
