"""Who takes part in which round: everybody, or one institution of each domain, by a rule that all compute.

With several institutions a domain, FedAPT (Su et al., AAAI 2024) samples one of each domain every round.
Here nobody draws: SHA-256 over the configuration's hash, the round and the domain picks the member, so
coordinator, institutions and auditors come to the same cohort, and nobody chooses it message by message.
What is left is that whoever fixes the configuration may try several (SECURITY.md,
docs/decisions/0006-cohorts.md).
"""

from typing import Final, Literal

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Member, Roster

Participation = Literal["all", "one-per-domain"]
EVERYBODY: Final = "all"
ONE_PER_DOMAIN: Final = "one-per-domain"


def _domains(roster: Roster) -> dict[int, list[Member]]:
    """Return domain index to its members in roster order; domains without any do not appear."""
    domains: dict[int, list[Member]] = {}
    for member in roster.members:
        domains.setdefault(member.domain_index, []).append(member)
    return domains


def _picked(configuration_hash: bytes, round_number: int, domain: int, members: list[Member]) -> Member:
    """Return a domain's member for a round.

    A 256-bit number modulo m members prefers none of them by more than 2**-256.
    """
    drawn = digest("cohort", configuration_hash, round_number, domain)
    return members[int.from_bytes(drawn) % len(members)]


def cohort_size(roster: Roster, participation: Participation) -> int:
    """Return how many institutions take part in a round, the same for every round."""
    return len(roster.members) if participation == EVERYBODY else len(_domains(roster))


def round_roster(
    roster: Roster, participation: Participation, configuration_hash: bytes, round_number: int
) -> Roster:
    """Return the roster of one round: those who take part in it, in the order of the whole roster.

    Args:
        roster: The session's roster.
        participation: The session's rule.
        configuration_hash: Hash of the session's whole configuration, 32 bytes.
        round_number: From 1; attempts at a round have one cohort.
    """
    if participation == EVERYBODY:
        return roster
    picked = {
        _picked(configuration_hash, round_number, domain, members).name
        for domain, members in _domains(roster).items()
    }
    return roster.only(picked)


def rounds_of(
    roster: Roster, participation: Participation, configuration_hash: bytes, rounds: int, name: str
) -> tuple[int, ...]:
    """Return the numbers of the rounds in which an institution takes part, ascending.

    Raises:
        InvalidInput: If it is not on the roster.
    """
    member = roster.member(name)
    numbers = range(1, rounds + 1)
    if participation == EVERYBODY:
        return tuple(numbers)
    others = _domains(roster)[member.domain_index]
    return tuple(
        number
        for number in numbers
        if _picked(configuration_hash, number, member.domain_index, others).name == name
    )


def check_size(roster: Roster, participation: Participation, least: int) -> None:
    """Refuse a roster whose cohorts are too small for a scheme that needs ``least`` institutions.

    Raises:
        InvalidInput: Saying what to change.
    """
    size = cohort_size(roster, participation)
    if participation == ONE_PER_DOMAIN and size < least:
        raise InvalidInput(
            f"with one institution a domain, the {size} domains that have any make a round of {size}, and"
            f" {least} are needed: have institutions of more domains, or set participation to all"
        )
