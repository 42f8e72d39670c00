"""Name to scheme: the one place that knows which aggregation schemes there are."""

from collections.abc import Collection, Mapping
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.encoding import MAX_CONTAINER_ITEMS
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.ckks import parameters
from fedapt_crypto.secagg.ckks.coordinator import CkksCoordinator
from fedapt_crypto.secagg.ckks.group import GroupKey, PublicGroup
from fedapt_crypto.secagg.ckks.institution import CkksInstitution
from fedapt_crypto.secagg.cohorts import EVERYBODY, ONE_PER_DOMAIN, Participation
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.plain import PlainCoordinator, PlainInstitution
from fedapt_crypto.secagg.scheme import (
    Admission,
    CoordinatorGroup,
    CoordinatorRound,
    InstitutionGroup,
    InstitutionRound,
    Phase,
    RoundContext,
    admit_all,
)

MASKING: Final = "masking"
CKKS: Final = "ckks"
NONE: Final = "none"

Held = TypeVar("Held")

PHASES: Final[Mapping[str, tuple[Phase, ...]]] = {
    MASKING: (Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT, Phase.CONSISTENCY, Phase.UNMASK),
    CKKS: (Phase.UPDATE, Phase.CONSISTENCY),
    NONE: (Phase.UPDATE,),
}
"""Scheme name to its phases."""

MIN_INSTITUTIONS: Final[Mapping[str, int]] = {MASKING: 3, CKKS: parameters.MIN_INSTITUTIONS, NONE: 1}
"""Below three institutions a sum gives each of two the other's update."""
MAX_INSTITUTIONS: Final[Mapping[str, int]] = {
    MASKING: MAX_CONTAINER_ITEMS,
    CKKS: parameters.MAX_INSTITUTIONS,
    NONE: MAX_CONTAINER_ITEMS,
}
"""Masking: what fits a message; a neighbour graph above 64. CKKS: room under the modulus."""


def phases(scheme: str) -> tuple[Phase, ...]:
    """Return a scheme's phases; raises `InvalidInput` for an unknown one."""
    try:
        return PHASES[scheme]
    except KeyError:
        raise InvalidInput(f"unknown aggregation scheme {scheme!r}: use {' or '.join(PHASES)}") from None


def check_participation(scheme: str, participation: Participation) -> None:
    """Refuse cohorts under a scheme that does not know them; raises `ValueError`, for validators.

    CKKS binds its group key and every execution to the whole roster, and all of it opens each round's sum:
    whoever sits a round out would be handed its ciphertext and decrypt it all the same.
    """
    if scheme == CKKS and participation == ONE_PER_DOMAIN:
        raise ValueError(
            f"participation {participation!r} does not go with secure_aggregation {scheme!r}, whose key and"
            f" rounds belong to the whole roster: choose {MASKING}, or participation {EVERYBODY!r}"
        )


def check_round(scheme: str, context: RoundContext) -> None:
    """Refuse, before anything starts, a scheme that is not installed or cannot hold such rounds.

    Raises:
        InvalidInput: Saying what to change.
    """
    least, most = MIN_INSTITUTIONS[scheme], MAX_INSTITUTIONS[scheme]
    if not least <= context.participants <= most:
        raise InvalidInput(
            f"secure aggregation {scheme!r} works with {least} to {most} institutions,"
            f" not {context.participants}"
        )
    if scheme == CKKS:
        parameters.require_tenseal()
        parameters.check_round(context)


def institution_round(
    scheme: str,
    context: RoundContext,
    roster: Roster,
    name: str,
    identity: Identity,
    update: NDArray[np.floating],
    *,
    minimum_participants: int,
    group: InstitutionGroup | None = None,
    confirmed: Collection[str] | None = None,
    admits: Admission = admit_all,
) -> InstitutionRound:
    """Return the institution's machine for one round.

    Args:
        scheme: The session's scheme.
        context: The round.
        roster: Our own approved roster.
        name: Our name on it.
        identity: Our signing key.
        update: The vector to contribute, shape (vector_length,).
        minimum_participants: Our own floor for the number of contributors.
        group: What `groups.open_part` gave, in a scheme that needs it.
        confirmed: Who has signed that it holds the same group secret; ``None`` where signatures in the round
            say so (masking), or for everybody.
        admits: Says whether we may sign a survivor set besides.

    Raises:
        InvalidInput: If the scheme is unknown, or has no group it needs or cannot hold the round.
    """
    if phases(scheme) == PHASES[NONE]:
        return PlainInstitution(context, roster, name, identity, update)
    if scheme == CKKS:
        parameters.require_tenseal()
        return CkksInstitution(
            context,
            roster,
            name,
            identity,
            update,
            _needed(group, GroupKey),
            minimum_participants=minimum_participants,
            confirmed=confirmed,
            admits=admits,
        )
    return MaskingInstitution(
        context,
        roster,
        name,
        identity,
        update,
        group=_needed(group, GroupSecret),
        minimum_participants=minimum_participants,
        admits=admits,
    )


def coordinator_round(
    scheme: str,
    context: RoundContext,
    roster: Roster,
    identity: Identity,
    *,
    group: CoordinatorGroup | None = None,
) -> CoordinatorRound:
    """Return the coordinator's machine for one round.

    Args:
        scheme: The session's scheme.
        context: The round.
        roster: Its roster.
        identity: The coordinator's signing key.
        group: What `groups.route_offer` gave.

    Raises:
        InvalidInput: If the scheme is unknown, or has no group it needs or cannot hold the round.
    """
    if phases(scheme) == PHASES[NONE]:
        return PlainCoordinator(context, roster, identity)
    if scheme == CKKS:
        parameters.require_tenseal()
        return CkksCoordinator(context, roster, _needed(group, PublicGroup))
    return MaskingCoordinator(context, roster, identity)


def _needed(group: object, kind: type[Held]) -> Held:
    if not isinstance(group, kind):
        raise InvalidInput("this scheme needs the session's group secret")
    return group
