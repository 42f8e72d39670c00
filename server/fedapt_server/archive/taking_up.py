"""Which session a coordinator takes up when it starts, and where that one stands."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_secure.log.reader import segments
from fedapt_secure.log.witness import highest_heads
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_server.archive.own_log import completed_ends, has_begun
from fedapt_server.archive.starting import new_configuration, reason_to_wait
from fedapt_server.archive.store import SessionStore, StoredSession
from fedapt_server.session.deadlines import slow_rounds
from fedapt_server.session.machine import CoordinatorSession

logger = logging.getLogger("fedapt_server")


def take_up(
    store: SessionStore,
    plan: SessionPlan | None,
    roster: Roster | None,
    *,
    again: bool,
    stay: bool,
    experiment_seed: int | None,
    max_message_bytes: int,
) -> StoredSession | None:
    """Return the session that was interrupted, else a new one, else the last one for who was away.

    Args:
        store: The coordinator's sessions.
        plan: The session to run, if one is planned.
        roster: Who is enrolled, if anybody is.
        again: Begin a session also where the plan is the one of the session that ended last.
        stay: Serve also where none can begin.
        experiment_seed: Makes domain keys repeatable, for experiments.
        max_message_bytes: What the coordinator takes of one message.

    Raises:
        InvalidInput: If the planned session cannot be, or none can begin and the service does not stay.
    """
    unfinished, ended = store.unfinished(), store.finished()
    if unfinished is not None:
        if plan not in (None, unfinished.configuration.plan) or again:
            logger.warning(
                "a session has not ended yet: it goes on, and session.yaml is for the next one"
                " ('fedapt-secure server run --end-session' ends it)",
                extra={"event": "session_goes_on", "session": unfinished.configuration.session.hex()},
            )
        return unfinished
    last = None if ended is None else ended.configuration.plan
    reason = reason_to_wait(plan, roster, last, again=again)
    if reason is None and plan is not None and roster is not None:
        configuration, seeds = new_configuration(plan, roster, experiment_seed, max_message_bytes)
        if (slow := slow_rounds(configuration)) is not None:
            logger.warning(slow, extra={"event": "slow_rounds"})
        return store.create(configuration, seeds)
    if not stay:
        raise InvalidInput(f"no session can begin: {reason}")
    return ended


def open_session(stored: StoredSession, identity: Identity, log: Path) -> CoordinatorSession:
    """Return the machine of a session, standing where the session stands.

    Args:
        stored: The session.
        identity: The coordinator's signing key.
        log: The coordinator's log, which says which heads of others it has seen.
    """
    files = segments(log)
    # A power cut may have taken the log's first line of it; one that has ended is never begun again.
    begun = stored.progress.ended or has_begun(files, stored.configuration.session)
    progress = stored.progress if begun else None
    return CoordinatorSession(
        stored.configuration, stored.key_seeds, identity, highest_heads(files), progress
    )


def ends_of_rounds(stored: StoredSession, log: Path) -> list[datetime]:
    """Return when rounds of a session were completed, as far as the newest part of the log says."""
    return [end.astimezone(UTC) for end in completed_ends(segments(log), stored.configuration.session)]
