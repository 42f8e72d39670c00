"""What to tell people when TLS refuses a connection: one line that says what happened and what to do."""

import ssl
from typing import Final

_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's numbers for why a certificate does not verify (x509_vfy.h)
_FOREIGN = (18, 19, 20, 21)
_WRONG_HOST = (62, 64)

_TO_COORDINATOR: Final = {
    _EXPIRED: "a certificate has expired: that institution runs 'fedapt-secure client csr', and"
    " 'fedapt-secure server sign' answers the file",
    _NOT_YET_VALID: "a certificate begins later than this machine's clock: compare the clocks of both"
    " machines, 'fedapt-secure client doctor' there says which is wrong",
    **dict.fromkeys(_FOREIGN, "a certificate is not of this federation's authority"),
}
_TO_INSTITUTION: Final = {
    _EXPIRED: "the coordinator's certificate has expired by this machine's clock:"
    " 'fedapt-secure client doctor' says whether that clock is wrong, or what to ask its operator for",
    _NOT_YET_VALID: "the coordinator's certificate is not valid yet by this machine's clock:"
    " 'fedapt-secure client doctor' says whose clock is wrong",
    **dict.fromkeys(
        _WRONG_HOST,
        "the coordinator's certificate is for other addresses: use one of those, or ask its operator to add"
        " this one to server.yaml and run 'fedapt-secure server renew'",
    ),
    **dict.fromkeys(
        _FOREIGN,
        "the certificate there is not of this federation: something on the way intercepts TLS, or the address"
        " is wrong; 'fedapt-secure client doctor' shows whose it is",
    ),
}


def refused_client(error: ssl.SSLError) -> str:
    """Return the coordinator's line for a handshake that it refused."""
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _TO_COORDINATOR.get(error.verify_code)
        return known or f"a certificate was refused: {error.verify_message}"
    return f"no TLS connection: {_reason(error)}"


def is_about_dates(error: BaseException | None) -> bool:
    """Whether a handshake failed, as far as one can tell, over when a certificate is valid."""
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_code in (_NOT_YET_VALID, _EXPIRED)
        case ssl.SSLError():
            # What OpenSSL sends to who shows a certificate that is over, or that has not begun.
            return any(alert in _reason(error) for alert in ("certificate expired", "bad certificate"))
    return False


def explain(error: BaseException, where: str) -> str:
    """Return an institution's line for a connection that failed.

    Args:
        error: What the attempt to connect raised.
        where: ``host:port``.
    """
    return f"{where}: {_explanation(error)}"


def _explanation(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            known = _TO_INSTITUTION.get(error.verify_code)
            return known or f"the coordinator's certificate is refused: {error.verify_message}"
        case ssl.SSLError() if "certificate expired" in _reason(error):
            return "refused, this institution's certificate has expired: run 'fedapt-secure client csr'"
        case ssl.SSLError():
            return f"no TLS connection ({_reason(error)})"
        case TimeoutError():
            return "no answer in time: is the address right, and the port open in the firewalls?"
        case ConnectionRefusedError():
            return "nothing listens there: is the coordinator running?"
        case OSError():
            return error.strerror or str(error)
    return type(error).__name__  # its text may be the other side's


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "the other side does not speak TLS").lower().replace("_", " ")
