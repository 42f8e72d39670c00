"""What an institution insists on before it takes part in a session, whatever the coordinator offers."""

from dataclasses import dataclass
from typing import Final

from fedapt_crypto.errors import InvalidInput, PolicyRefused, TooFewParticipants
from fedapt_crypto.identity import fingerprint
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg import cohorts, registry
from fedapt_secure.protocol.hiding import count_said, hidden, holders
from fedapt_secure.protocol.messages import MAX_FRAME_BYTES
from fedapt_secure.protocol.reasons import Reason, told_as
from fedapt_secure.protocol.session import SessionConfiguration

_PER_KEY: Final = "minimum_institutions_per_key"
_ALTERNATIVE: Final = (
    "ask for fewer keys than domains ('keys' in session.yaml) or for a method without keys, or lower the rule"
    " in policy.yaml if our own noise is to suffice (docs/what-a-sum-hides.md)"
)


@dataclass(frozen=True)
class Requirements:
    """What the institution's policy insists on.

    Attributes:
        differential_privacy: Whether every session must train under DP.
        aggregation: Schemes that may protect its updates.
        minimum_participants: Smallest number of contributors it helps to unmask or decrypt.
        minimum_institutions_per_key: Smallest number of institutions on its domain key, itself among them, in
            a sum that it helps to unmask or decrypt.
        coordinators: Fingerprints of those that may offer sessions; empty for whoever signed the roster.
        max_message_bytes: Largest message it takes.
    """

    differential_privacy: bool
    aggregation: tuple[str, ...]
    minimum_participants: int
    minimum_institutions_per_key: int = 1
    coordinators: tuple[str, ...] = ()
    max_message_bytes: int = MAX_FRAME_BYTES

    def check(self, configuration: SessionConfiguration, roster: Roster, name: str) -> None:
        """Refuse a session that is not for us.

        Args:
            configuration: The session.
            roster: The approved roster.
            name: Our name on it.

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
        self._check_key(configuration, name)
        largest = configuration.needed_message_bytes
        if largest > self.max_message_bytes:
            raise PolicyRefused(
                f"the session's largest message has {largest} bytes, {self.max_message_bytes} are allowed",
                rule="max_message_bytes",
            )

    def _check_key(self, configuration: SessionConfiguration, name: str) -> None:
        needed = self.minimum_institutions_per_key
        if needed <= 1 or configuration.plan.secure_aggregation == registry.NONE:
            return
        if configuration.plan.participation == cohorts.ONE_PER_DOMAIN:
            raise PolicyRefused(
                "a round has one institution of each domain, picked by a rule that the coordinator can"
                f" steer: {_ALTERNATIVE}",
                rule=_PER_KEY,
            )
        found = hidden(configuration, name).own or 0
        if found < needed:
            raise PolicyRefused(
                f"the session has {count_said(found)} on our domain key where {needed} are required:"
                f" {_ALTERNATIVE}",
                rule=_PER_KEY,
            )

    def check_participants(
        self, configuration: SessionConfiguration, name: str, participants: tuple[str, ...]
    ) -> None:
        """Refuse a round that begins with too few, before anything is spent.

        Args:
            configuration: The session.
            name: Our name.
            participants: Who begins the round.

        Raises:
            PolicyRefused: If they are too few in all, or on our key.
        """
        count, needed = len(participants), self.minimum_participants
        if count < needed:
            raise PolicyRefused(
                f"the round begins with {count} institutions where {needed} are required",
                rule="minimum_participants",
            )
        found, on_key = self._on_our_key(configuration, name, participants), self.minimum_institutions_per_key
        if found < on_key:
            raise PolicyRefused(
                f"the round begins with {count_said(found)} on our domain key where {on_key} are required",
                rule=_PER_KEY,
            )

    def check_survivors(
        self, configuration: SessionConfiguration, name: str, survivors: tuple[str, ...]
    ) -> None:
        """Refuse to sign a survivor set with too few on our key, before any share of it is revealed.

        Args:
            configuration: The session.
            name: Our name.
            survivors: Who would be in the sum.

        Raises:
            TooFewParticipants: If they are too few.
        """
        found, needed = self._on_our_key(configuration, name, survivors), self.minimum_institutions_per_key
        if found < needed:
            raise TooFewParticipants(
                f"policy rule {_PER_KEY}: the sum would have {count_said(found)} on our domain key where"
                f" {needed} are required"
            )

    def _on_our_key(self, configuration: SessionConfiguration, name: str, among: tuple[str, ...]) -> int:
        if configuration.plan.secure_aggregation == registry.NONE:
            return len(among)  # every update is sent as it is, and the rule says nothing
        return holders(configuration, name, among)
