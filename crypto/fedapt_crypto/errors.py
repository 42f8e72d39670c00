"""The one error tree: what went wrong, and whose mistake it was.

Messages are shown to users and peers as they stand: one line, what to do where something can be done,
never a secret.
"""

import errno
import os
from typing import Final

_REMEDIES: Final[dict[int | None, str]] = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space or raise the quota",
    errno.EIO: "see to the disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "mount it for writing",
    errno.ENOMEM: "free memory",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files",
    errno.EADDRINUSE: "stop what uses the port, or name another one",
}

_CODES: Final = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.ENOMEM: "no_memory",
}
LACKING: Final = frozenset(_REMEDIES)
"""What the system answers where the machine lacks something for now, and the request was well made."""


class FedaptError(Exception):
    """Root of every error this project raises on purpose.

    Attributes:
        code: What stands for it where others may know only that something is wrong, and not what: one of
            `fedapt_secure.protocol.reasons.Reason`, where whoever raised it knows.
    """

    code: str | None = None


class InvalidInput(FedaptError):
    """The user, a configuration or our caller gave something unusable. Exit status 2."""


class RollbackDetected(InvalidInput):
    """Our own log lacks a line that others witnessed: it was cut, restored from an old copy or replaced."""


class PolicyRefused(InvalidInput):
    """What is asked for would break the institution's own policy; refused before anything is spent.

    Attributes:
        rule: The policy's field, such as ``max_epsilon``.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(f"policy rule {rule}: {message}")
        self.rule = rule


class RunFailed(FedaptError):
    """The work was well asked for and could not be finished. Exit status 1."""


class Unavailable(FedaptError):
    """The machine cannot do it for now: disk full, I/O error, no memory, a port in use. Exit status 75.

    Nobody gave anything wrong, and nothing is lost: started again later, the same may work.
    """

    code = "disk_error"


class RoundAborted(RunFailed):
    """A round ended without a sum; nothing was revealed. The next round may work."""


class UpdateUnusable(RunFailed):
    """Training gave values that are no numbers: the round goes on without this update."""

    code = "training_diverged"


class BudgetExhausted(FedaptError):
    """The next step would exceed the institution's own privacy budget; it stops for good."""


class PeerError(FedaptError):
    """A peer broke the protocol.

    Attributes:
        peer: Name of the peer that is to blame as far as we can tell, or ``None``.
    """

    def __init__(self, message: str, *, peer: str | None = None) -> None:
        super().__init__(message if peer is None else f"{peer}: {message}")
        self.peer = peer


class MalformedMessage(PeerError):
    """Bytes that do not decode strictly: wrong type, size, field, or not the canonical encoding."""


class UnexpectedMessage(PeerError):
    """A message in the wrong phase, from the wrong sender, late or twice."""


class VerificationFailed(PeerError):
    """A signature, commitment or authenticated ciphertext does not verify."""


class ContextMismatch(PeerError):
    """The peer works on another session, round, model, configuration or roster than we do."""


class OverlappingUnmaskLists(PeerError):
    """Someone asked for both secrets of one institution: an attack on its update."""


class TooFewParticipants(PeerError):
    """Fewer parties than the threshold or than the institution's own minimum."""


class ReplayedExecution(PeerError):
    """A round that is not newer than the newest one this institution joined."""


class SumCheckFailed(VerificationFailed):
    """A sum is not that of what its survivors have tagged; whose fault that is nobody can tell."""


class UnresolvedExecution(PeerError):
    """Shares were revealed in an execution whose sum has not come, and another one would show an update."""


class RolledBackLog(PeerError):
    """A peer's log has gone back behind a head that it signed before, or has two lines in one place."""


class CertificateRefused(PeerError):
    """A certificate that is revoked, out of date, or not of our authority."""


def system_error(sentence: str, error: OSError, advice: str | None = None) -> "InvalidInput | Unavailable":
    """Return what to raise where the operating system refused something.

    Args:
        sentence: What could not be done, with the path as the person knows it: ``cannot write FILE``.
        error: The system's answer.
        advice: What to do, where that can be said better than `Unavailable` says it by itself.

    Returns:
        `Unavailable` where the machine lacks something for now (`LACKING`), else `InvalidInput`: a path that
        is not there, that is something else, or that may not be used is put right by a person.
    """
    # By number: asyncio, socket and others put sentences of their own around what the system says.
    reason = os.strerror(error.errno) if error.errno in LACKING and error.errno else error.strerror or error
    said = f"{sentence}: {reason}"
    if error.errno in LACKING:
        lacking = Unavailable(f"{said}; {advice or _REMEDIES[error.errno]}, then start it again")
        lacking.code = _CODES.get(error.errno or 0, lacking.code)
        return lacking
    return InvalidInput(said if advice is None else f"{said}; {advice}")
