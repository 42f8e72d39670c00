"""What an institution insists on before it takes part in a session, whatever the coordinator offers."""

from dataclasses import dataclass

from fedapt_crypto.errors import ContextMismatch, PolicyRefused
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg import registry
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class Requirements:
    """What the institution's policy insists on.

    Attributes:
        differential_privacy: Whether every session must train under DP.
        aggregation: Schemes that may protect its updates.
        minimum_participants: Smallest number of contributors it helps to unmask or decrypt.
    """

    differential_privacy: bool
    aggregation: tuple[str, ...]
    minimum_participants: int

    def check(self, configuration: SessionConfiguration, roster: Roster) -> None:
        """Refuse a session that is not for us.

        Raises:
            ContextMismatch: If its roster is not the approved one.
            PolicyRefused: If the policy does not allow it, naming the rule.
            InvalidInput: If its scheme cannot serve it.
        """
        plan = configuration.plan
        scheme = plan.secure_aggregation
        if configuration.roster != roster:
            raise ContextMismatch("the session's roster is not the one approved here")
        if self.differential_privacy and not plan.differential_privacy:
            raise PolicyRefused(
                "the session trains without differential privacy", rule="require_differential_privacy"
            )
        if scheme not in self.aggregation:
            allowed = " or ".join(self.aggregation)
            raise PolicyRefused(f"the session uses {scheme!r}, {allowed} is allowed", rule="aggregation")
        registry.check_round(scheme, configuration.round_context(1, 1, bytes(32)))
        found, needed = len(roster.members), self.minimum_participants
        if found < needed:
            raise PolicyRefused(
                f"the roster has {found} institutions where {needed} are required",
                rule="minimum_participants",
            )
