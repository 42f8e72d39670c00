"""Whether a session is to be created, and what it consists of; without I/O.

The rule: a session is created when the service starts, if there is a plan, the roster has enough members
for the plan's scheme, and the plan is not the one of the session that ended last. Institutions and domains
are fixed from then on. Otherwise the service says what is missing and serves without a session: nothing
begins while nobody looks.
"""

import secrets

from pydantic import ValidationError

from fedapt_crypto import domain_keys
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg import cohorts, registry
from fedapt_crypto.secagg.scheme import SESSION_BYTES
from fedapt_secure.config import ranges
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration


def reason_to_wait(
    plan: SessionPlan | None, roster: Roster | None, ended: SessionPlan | None, *, again: bool
) -> str | None:
    """Return why no session is created, in words that say what to do; ``None`` if one is.

    Args:
        plan: What the operator's file says, if there is one.
        roster: Who is enrolled, if anybody is.
        ended: The plan of the session that ended last.
        again: Whether a session of the same plan is wanted once more.
    """
    if plan is None:
        return "there is no session.yaml: write one and run 'fedapt-secure server run' again"
    registry.phases(plan.secure_aggregation)
    least = registry.MIN_INSTITUTIONS[plan.secure_aggregation]
    enrolled = 0 if roster is None else len(roster.members)
    domains = 0 if roster is None else cohorts.cohort_size(roster, plan.participation)
    if domains < least <= enrolled:
        return (
            f"institutions of {domains} domains are enrolled, a session with one institution a domain needs"
            f" {least}: invite some of other domains, or set 'participation: all' in session.yaml, and run"
            " 'fedapt-secure server run' again"
        )
    if enrolled < least:
        return (
            f"{enrolled} institutions are on the roster, a session needs {least}: invite more, and run"
            " 'fedapt-secure server run' again when they are there"
        )
    if plan == ended and not again:
        return (
            "the session in session.yaml has ended: change it for another one, or run"
            " 'fedapt-secure server run --new-session' for the same once more"
        )
    return None


def new_configuration(
    plan: SessionPlan,
    roster: Roster,
    experiment_seed: int | None,
    max_message_bytes: int = ranges.USUAL_MESSAGE_BYTES,
) -> tuple[SessionConfiguration, tuple[bytes, ...]]:
    """Return a fresh session and the seeds of its domain keys.

    Raises:
        InvalidInput: If plan and roster do not go together, or the scheme cannot hold such a session.
    """
    session = secrets.token_bytes(SESSION_BYTES)
    seeds = tuple(
        domain_keys.draw_seed()
        if experiment_seed is None
        else domain_keys.experiment_seed(experiment_seed, index)
        for index in range(plan.key_count)
    )
    if any(member.domain_index >= len(plan.domains) for member in roster.members):
        raise InvalidInput(
            f"session.yaml names {len(plan.domains)} domains, and institutions are enrolled in more: list"
            " all of them under 'domains', as 'fedapt-secure server roster' shows them"
        )
    try:
        configuration = SessionConfiguration(
            session=session,
            plan=plan,
            roster=roster,
            key_commitments=tuple(
                domain_keys.commitment(seed, session, index) for index, seed in enumerate(seeds)
            ),
        )
    except ValidationError as error:
        raise InvalidInput(f"session.yaml: {error.errors(include_input=False)[0]['msg']}") from None
    configuration.check_scheme()
    needed = configuration.needed_message_bytes
    if needed > max_message_bytes:
        raise InvalidInput(
            f"the session's largest message has {needed:,} bytes, and max_message_bytes in server.yaml takes"
            f" {max_message_bytes:,}: set it to {needed} or more, and have every institution set"
            f" max_message_bytes in its policy likewise"
        )
    return configuration, seeds
