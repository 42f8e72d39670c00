"""Bodies of an institution's log lines, as far as they follow from what the session hands out."""

from fedapt_client.session.actions import RoundOver
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.protocol.reasons import reason_of

Fields = dict[str, object]


def round_fields(context: RoundContext) -> Fields:
    """Return which execution of which round a line is about."""
    return {
        "session": context.session.hex(),
        "round": context.round,
        "attempt": context.attempt,
        "context": context.hash.hex(),
    }


def ended_fields(over: RoundOver) -> Fields:
    """Return how a round ended for this institution."""
    record = over.record
    return {
        "round": record.round,
        "attempt": record.attempt,
        "status": record.status,
        "contributors": list(over.end.contributors),
        "context": record.context.hex(),
        "transcript": record.transcript.hex() if record.transcript is not None else None,
    }


def refused_fields(error: FedaptError, round_number: int) -> Fields:
    """Return what was refused; ``rule`` names the entry of the policy that it would have broken.

    ``code`` is what others may know of it; the sentence is for the institution's own people.
    """
    return {
        "round": round_number,
        "code": reason_of(error).value,
        "rule": getattr(error, "rule", None),
        "error": type(error).__name__,
        "detail": str(error),
    }
