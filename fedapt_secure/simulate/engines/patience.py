"""What a federation on one machine needs more of, the more institutions share it: time and file handles."""

import resource
from typing import Final

from fedapt_client.runner import CLOSE_RETRY_S
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.transport import PING_TIMEOUT_S

ROUND_TIMEOUT_S: Final = 600.0
PHASE_TIMEOUT_S: Final = 60.0
GATHER_TIMEOUT_S: Final = 30.0
ROUND_S_EACH, PHASE_S_EACH, GATHER_S_EACH = 3.0, 3.0, 1.0
"""So long one institution may keep this machine, all others waiting: ten times what it takes on a quiet one.

Who vanishes in a round is noticed at once, so patience costs nothing there."""
ANSWER_S_EACH, RETRY_S, RETRY_S_EACH = 1.0, 60.0, 1.0
MAX_CONNECTIONS: Final = 1024
HANDLES: Final = 256
HANDLES_EACH: Final = 8
"""Both ends of a connection, the log, the ledger and its journal, images and files while they are written."""


def round_timeout_s(institutions: int) -> float:
    """Return how long the coordinator waits until the last institution has trained."""
    return max(ROUND_TIMEOUT_S, ROUND_S_EACH * institutions)


def phase_timeout_s(institutions: int) -> float:
    """Return how long it waits in every other phase."""
    return max(PHASE_TIMEOUT_S, PHASE_S_EACH * institutions)


def gather_timeout_s(institutions: int) -> float:
    """Return how long it waits for missing institutions before a round."""
    return max(GATHER_TIMEOUT_S, GATHER_S_EACH * institutions)


def answer_within_s(institutions: int) -> float:
    """Return how long one end of a connection may take to answer a ping of the other."""
    return max(PING_TIMEOUT_S, ANSWER_S_EACH * institutions)


def retry_for_s(institutions: int) -> float:
    """Return how long an institution tries to reach the coordinator again."""
    return max(RETRY_S, RETRY_S_EACH * institutions)


def close_retry_s(institutions: int) -> float:
    """Return how long it tries when only the record with all signatures is missing."""
    return max(CLOSE_RETRY_S, RETRY_S_EACH * institutions)


def max_connections(institutions: int) -> int:
    """Return how many connections the rounds port holds: everybody's, and its successor where one breaks."""
    return max(MAX_CONNECTIONS, 2 * institutions)


def allow_file_handles(institutions: int) -> None:
    """Let this process open as many files as all parties in it need.

    Raises:
        InvalidInput: If the system does not allow so many.
    """
    needed = HANDLES + HANDLES_EACH * institutions
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        most = max(0, hard - HANDLES) // HANDLES_EACH
        raise InvalidInput(
            f"{institutions} institutions in one process need {needed} open files and {hard} are allowed:"
            f" raise the hard limit ('ulimit -Hn {needed}' as root), or give --clients {most} or fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
