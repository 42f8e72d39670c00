"""How long the coordinator waits: what people do and compute, and what their messages take; without I/O.

The plan's timeouts are for training and for answers. What is sent takes time besides, which follows from its
size and from the rate that every line of the session keeps at least (``minimum_rate_kbit_s`` of the plan).
An institution is late when both are over, however the one was spent on the other.

The rate is each institution's own, with all of a round transferring at once: a coordinator's line that n
share must carry n times as much. Who is slower is left out of rounds, but its connection is not cut before it
stands still (see `fedapt_server.ports.traffic`).
"""

from collections.abc import Iterable

from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol.message_sizes import (
    A_PARTY_BYTES,
    BESIDES_BYTES,
    answer_bytes,
    group_bytes,
    model_bytes,
    update_bytes,
)
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.actions import Action, SendTo


def transfer_s(configuration: SessionConfiguration, size_bytes: float) -> float:
    """Return how long so many bytes take on the slowest line of the session, in seconds."""
    return size_bytes * 8 / (1000 * configuration.plan.minimum_rate_kbit_s)


def phase_s(
    configuration: SessionConfiguration, base_s: float, sent: Iterable[Action], phase: Phase | None
) -> float:
    """Return how long to wait for the answers of a phase.

    Args:
        configuration: The session.
        base_s: How long training, or thinking, may take.
        sent: What is sent before: each waits for the most that one of them gets.
        phase: What comes back; ``None`` for no more than a signature.
    """
    down: dict[str, int] = {}
    for one in sent:
        if isinstance(one, SendTo):
            down[one.name] = down.get(one.name, 0) + len(one.data)
    up = BESIDES_BYTES if phase is None else answer_bytes(configuration, phase)
    # The end of the round before, with everybody's heads, may still be under way.
    before = BESIDES_BYTES + A_PARTY_BYTES * len(configuration.roster.members)
    if configuration.blind:
        before += answer_bytes(configuration, Phase.UPDATE)  # and its sum
    return base_s + transfer_s(configuration, before + max(down.values(), default=0) + up)


def gathering_s(
    configuration: SessionConfiguration, base_s: float, *, first: bool, missed_bytes: int
) -> float:
    """Return how long to wait for institutions that are to come.

    Args:
        configuration: The session, which they are sent.
        base_s: How long they may take.
        first: Whether nobody has loaded the model yet, or made the group secret.
        missed_bytes: What who was away may have to get besides: sums that only institutions can open.
    """
    size = BESIDES_BYTES + len(configuration.to_bytes()) + missed_bytes
    size += A_PARTY_BYTES * len(configuration.roster.members)
    size += group_bytes(configuration) * (2 if first else 1)
    return base_s + transfer_s(configuration, size)


def group_s(configuration: SessionConfiguration) -> float:
    """Return how long to wait for the group secret from who was asked for it, in seconds."""
    size = BESIDES_BYTES + group_bytes(configuration)
    return configuration.plan.gather_timeout_s + transfer_s(configuration, size)


def slow_rounds(configuration: SessionConfiguration) -> str | None:
    """Return what to tell people where a round may spend more time on sending than on anything else.

    Args:
        configuration: The session.
    """
    plan = configuration.plan
    update, down = update_bytes(configuration), model_bytes(configuration)
    seconds = transfer_s(configuration, down + update)
    if seconds <= plan.round_timeout_s:
        return None
    return (
        f"a round moves {down / 1e6:.1f} MB to each institution and {update / 1e6:.1f} MB back: on a line of"
        f" minimum_rate_kbit_s {plan.minimum_rate_kbit_s:g} that takes {seconds:.0f} s, more than the"
        f" round_timeout_s of {plan.round_timeout_s:g} s for training; each deadline is longer by its part of"
        " it. Raise minimum_rate_kbit_s if all lines are faster, or train fewer values"
    )
