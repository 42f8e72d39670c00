"""What the registrar refuses: a reason for the coordinator's log, and the code that the other side gets."""

from fedapt_crypto.errors import InvalidInput, PeerError
from fedapt_secure.protocol.joining.enrolment_refusals import EnrolmentRefusal as Told


class Refused(PeerError):
    """A request that is not granted.

    Attributes:
        told: The code that the other side is sent; the message itself is for the log.
    """

    def __init__(self, message: str, *, told: Told = Told.TOKEN_REFUSED, peer: str | None = None) -> None:
        super().__init__(message, peer=peer)
        self.told = told


def told(error: PeerError | InvalidInput) -> Told:
    """Return the code for why no certificate was made: what was asked for, or our own clock and authority."""
    return Told.REQUEST_UNSOUND if isinstance(error, PeerError) else Told.CANNOT_CERTIFY
