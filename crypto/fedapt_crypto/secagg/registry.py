"""Name to scheme: the one place that knows which aggregation schemes there are."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.masking_coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking_institution import MaskingInstitution
from fedapt_crypto.secagg.plain import PlainCoordinator, PlainInstitution
from fedapt_crypto.secagg.scheme import CoordinatorRound, InstitutionRound, Phase, RoundContext

MASKING: Final = "masking"
NONE: Final = "none"

PHASES: Final[Mapping[str, tuple[Phase, ...]]] = {
    MASKING: (Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT, Phase.CONSISTENCY, Phase.UNMASK),
    NONE: (Phase.UPDATE,),
}
"""Scheme name to its phases."""

MIN_INSTITUTIONS: Final[Mapping[str, int]] = {MASKING: 3, NONE: 1}
"""Below three institutions a sum gives each of two the other's update."""
MAX_INSTITUTIONS: Final[Mapping[str, int]] = {MASKING: 64, NONE: 64}
"""Full graph only: every pair shares a mask."""


def phases(scheme: str) -> tuple[Phase, ...]:
    """Return a scheme's phases; raises `InvalidInput` for an unknown one."""
    try:
        return PHASES[scheme]
    except KeyError:
        raise InvalidInput(f"unknown aggregation scheme {scheme!r}: use {' or '.join(PHASES)}") from None


def institution_round(
    scheme: str,
    context: RoundContext,
    roster: Roster,
    name: str,
    identity: Identity,
    update: NDArray[np.floating],
    *,
    minimum_participants: int,
) -> InstitutionRound:
    """Return the institution's machine for one round; raises `InvalidInput` for an unknown scheme."""
    if phases(scheme) == PHASES[NONE]:
        return PlainInstitution(context, name, identity, update)
    return MaskingInstitution(
        context, roster, name, identity, update, minimum_participants=minimum_participants
    )


def coordinator_round(scheme: str, context: RoundContext, roster: Roster) -> CoordinatorRound:
    """Return the coordinator's machine for one round; raises `InvalidInput` for an unknown scheme."""
    if phases(scheme) == PHASES[NONE]:
        return PlainCoordinator(context, roster)
    return MaskingCoordinator(context, roster)
