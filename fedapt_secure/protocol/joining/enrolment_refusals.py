"""Why the coordinator does not enrol, renew or hand out: a closed list, and what an institution makes of it.

What stands in the coordinator's log may name an invitation or a member. The institution is sent one of these
codes, without figures, and prints the sentence that it has for it itself: nobody who answers at the
coordinator's address can put words on its screen or into its log.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field


class EnrolmentRefusal(StrEnum):
    """One refusal of the enrolment port. What each means to the institution is in `SAID`."""

    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a code
    """The one answer to everything that is wrong with a token: an outsider learns nothing from it."""
    NAME_DIFFERS = "name_differs"
    OTHER_FEDERATION = "other_federation"
    REQUEST_UNSOUND = "request_unsound"
    KEY_TAKEN = "key_taken"
    CHALLENGE_NOT_OPENED = "challenge_not_opened"
    CANNOT_CERTIFY = "cannot_certify"
    NO_CERTIFICATE = "no_certificate"
    NOT_A_MEMBER = "not_a_member"
    REVOKED = "revoked"
    ENTRY_UNSIGNED = "entry_unsigned"
    MESSAGE_UNKNOWN = "message_unknown"


RefusalCode = Annotated[str, Field(pattern="^[a-z_]{1,40}$")]
"""An `EnrolmentRefusal`, or one of a later version; a message with anything else does not decode."""

SAID: Final[Mapping[EnrolmentRefusal, str]] = {
    EnrolmentRefusal.TOKEN_REFUSED: "the coordinator does not accept this join string (expired, used, or not"
    " one of its own): ask its operator for a new one",
    EnrolmentRefusal.NAME_DIFFERS: "the coordinator has another name for this institution than what it was"
    " asked for: use the join string or the certificate that was made for this folder",
    EnrolmentRefusal.OTHER_FEDERATION: "the request is meant for another federation than the one that answers"
    " there: check the address with the coordinator's operator",
    EnrolmentRefusal.REQUEST_UNSOUND: "the coordinator finds that a signature, key or proof in the request"
    " does not hold: try again; if it stays so, enrol from a new folder with a new join string",
    EnrolmentRefusal.KEY_TAKEN: "a name or key in the request belongs to a member, present or past: enrol"
    " from a new folder",
    EnrolmentRefusal.CHALLENGE_NOT_OPENED: "the coordinator's challenge was not opened with the key in the"
    " request: enrol from a new folder",
    EnrolmentRefusal.CANNOT_CERTIFY: "the coordinator cannot certify now, for its clock and its own"
    " certificate do not fit: ask its operator to restart 'fedapt-secure server run', which says what to do,"
    " and then try again",
    EnrolmentRefusal.NO_CERTIFICATE: "the coordinator was shown no certificate, and this needs the"
    " institution's: something on the way may have taken it off, 'fedapt-secure client doctor' looks",
    EnrolmentRefusal.NOT_A_MEMBER: "this institution is not a member (any more): ask the coordinator's"
    " operator for a new invitation",
    EnrolmentRefusal.REVOKED: "this institution's certificate was revoked: ask the coordinator's operator for"
    " a new invitation",
    EnrolmentRefusal.ENTRY_UNSIGNED: "this institution enrolled before members signed their entries of the"
    " roster, and is not on it: run 'fedapt-secure client renew' to sign, then show and approve the roster",
    EnrolmentRefusal.MESSAGE_UNKNOWN: "the coordinator does not know this kind of message: update whichever"
    " of the two programs is older",
}
NOT_KNOWN: Final = (
    "the coordinator refuses, for a reason that this version does not know: ask its operator, or update"
)
"""What is said of a code that is not on the list."""


def said(code: str) -> str:
    """Return this institution's sentence for a code; one sentence for all codes that are not on the list."""
    try:
        return SAID[EnrolmentRefusal(code)]
    except ValueError:
        return NOT_KNOWN
