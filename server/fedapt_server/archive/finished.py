"""Answers those who ask for the model of a finished session; without I/O."""

from fedapt_crypto.identity import Identity
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import NoModelReason
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.archive.store import StoredSession
from fedapt_server.session import bodies
from fedapt_server.session.grouping import Grouping
from fedapt_server.session.progress import Progress
from fedapt_server.session.sums import newest_model


def answer(
    stored: StoredSession | None, request: m.ModelRequest, identity: Identity
) -> m.FinishedModel | m.NoModel:
    """Return the session with its model and all key seeds, or why not.

    They are for those who took part, by the session's own roster, and only once the session is over: before
    that an institution knows no domain key but its own.

    Args:
        stored: The session that was asked for, if there is one.
        request: The question; the connection's certificate is in the name it gives.
        identity: Signs.
    """
    if stored is None or not stored.progress.ended:
        return m.NoModel(reason=NoModelReason.NO_SUCH_SESSION.value)
    configuration, progress = stored.configuration, stored.progress
    if request.name not in configuration.roster.names:
        return m.NoModel(reason=NoModelReason.NOT_OF_THE_ROSTER.value)
    if not progress.completed_rounds:
        return m.NoModel(reason=NoModelReason.NO_ROUND_COMPLETED.value)
    if configuration.blind or progress.stated is None:
        return m.NoModel(reason=NoModelReason.NEVER_KNOWN.value)
    end = bodies.session_end(
        configuration,
        identity,
        progress.model_id,
        stored.key_seeds,
        progress.records,
    )
    return m.FinishedModel(
        configuration=configuration.to_bytes(),
        signature=identity.sign("session offer", configuration.hash),
        end=end.to_bytes(),
        model=newest_model(progress, progress.stated, progress.statements).to_bytes(),
        group=_part(configuration, progress, request.name),
    )


def _part(configuration: SessionConfiguration, progress: Progress, name: str) -> bytes:
    """Return an institution's part of the group secret, where domain keys follow from it."""
    if not configuration.keys_are_shared or progress.group is None:
        return b""
    grouping = Grouping(configuration)
    grouping.take(progress.group)
    return grouping.part_for(name)
