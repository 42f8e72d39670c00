"""What an institution insists on before it takes part in a session, whatever the coordinator offers."""

from dataclasses import dataclass

from fedapt_crypto.errors import InvalidInput, PolicyRefused
from fedapt_crypto.identity import fingerprint
from fedapt_crypto.roster import Roster
from fedapt_secure.protocol.messages import MAX_FRAME_BYTES
from fedapt_secure.protocol.reasons import Reason, told_as
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class Requirements:
    """What the institution's policy insists on.

    Attributes:
        differential_privacy: Whether every session must train under DP.
        aggregation: Schemes that may protect its updates.
        minimum_participants: Smallest number of contributors it helps to unmask or decrypt.
        coordinators: Fingerprints of those that may offer sessions; empty for whoever signed the roster.
        max_message_bytes: Largest message it takes.
    """

    differential_privacy: bool
    aggregation: tuple[str, ...]
    minimum_participants: int
    coordinators: tuple[str, ...] = ()
    max_message_bytes: int = MAX_FRAME_BYTES

    def check(self, configuration: SessionConfiguration, roster: Roster) -> None:
        """Refuse a session that is not for us.

        Raises:
            PolicyRefused: If the policy does not allow it, naming the rule.
            InvalidInput: If its roster is not the approved one, or its scheme cannot serve it.
        """
        plan = configuration.plan
        scheme = plan.secure_aggregation
        if configuration.roster != roster:
            refused = InvalidInput(
                "the session's roster is not the one approved here: run 'fedapt-secure client roster show',"
                " and approve the present one if it is right"
            )
            refused.code = Reason.ROSTER_DIFFERS.value
            raise refused
        coordinator = fingerprint(roster.coordinator_key)
        if self.coordinators and coordinator not in self.coordinators:
            raise PolicyRefused(
                f"the coordinator {coordinator} is not among those allowed", rule="coordinators"
            )
        if self.differential_privacy and not plan.differential_privacy:
            raise PolicyRefused(
                "the session trains without differential privacy", rule="require_differential_privacy"
            )
        if scheme not in self.aggregation:
            allowed = " or ".join(self.aggregation)
            raise PolicyRefused(f"the session uses {scheme!r}, {allowed} is allowed", rule="aggregation")
        with told_as(Reason.PLAN_IMPOSSIBLE):
            configuration.check_scheme()
        found, needed = configuration.cohort_size, self.minimum_participants
        if found < needed:
            where = "the roster" if found == len(roster.members) else "a round of the session"
            raise PolicyRefused(
                f"{where} has {found} institutions where {needed} are required",
                rule="minimum_participants",
            )
        largest = configuration.largest_message_bytes
        if largest > self.max_message_bytes:
            raise PolicyRefused(
                f"the session's largest message has {largest} bytes or more, {self.max_message_bytes} are"
                " allowed",
                rule="max_message_bytes",
            )

    def check_participants(self, count: int) -> None:
        """Refuse a round that begins with too few, before anything is spent; raises `PolicyRefused`."""
        if count < self.minimum_participants:
            raise PolicyRefused(
                f"the round begins with {count} institutions where {self.minimum_participants} are required",
                rule="minimum_participants",
            )
