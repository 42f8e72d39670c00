"""What the coordinator does first with a session, new or gone on with after a restart; without I/O."""

from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies
from fedapt_server.session.actions import Action, Keep, Log
from fedapt_server.session.progress import Progress


def resumed(
    configuration: SessionConfiguration, progress: Progress, logged: tuple[int, int] | None
) -> tuple[Progress, list[Action]]:
    """Return how far a session has come and what is to be made durable and logged of it.

    Args:
        configuration: The session.
        progress: What the store has.
        logged: Round and attempt of the last ``round_ended`` in the log: a crash may have come between.
    """
    # A power cut may have taken the line. One that has ended has it: its end came later, and was synced.
    begun = Log("session_started", bodies.session_started(configuration))
    actions: list[Action] = [] if progress.number or progress.ended else [begun]
    if progress.unlogged(logged):
        actions.append(Log("round_ended", progress.last_end or {}))
    if progress.ended:
        return progress, actions
    actions.append(Log("session_resumed", bodies.session_resumed(configuration, progress)))
    if progress.given is not None:  # it may be with some of them: then it is the model of all
        body, progress = bodies.after_given(configuration, progress, progress.given)
        actions += [Keep(progress), Log("round_ended", body)]
    elif progress.interrupted:  # what was released in that attempt is burned
        body, progress = bodies.without_sum(configuration, progress, "the coordinator was restarted")
        actions += [Keep(progress), Log("round_ended", body)]
    return progress, actions
