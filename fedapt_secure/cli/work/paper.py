"""Requests and answers that travel as files, on the coordinator's side."""

from fedapt_crypto.identity import fingerprint
from fedapt_secure.protocol.joining.enrolment import Renewal, Request, from_file, to_file
from fedapt_server.membership.registrar import Registrar


def answer_file(registrar: Registrar, data: bytes, source: str) -> tuple[str, bytes, tuple[str, ...]]:
    """Check a request file and answer it.

    Returns:
        Who asked, the answer file, and lines for the operator.

    Raises:
        InvalidInput: If it is not a request file.
        PeerError: If the request is refused.
    """
    if b"BEGIN FEDAPT RENEWAL REQUEST" in data:
        renewal = from_file(data, Renewal, source)
        return renewal.name, to_file(registrar.renew(renewal)), (f"certificate of {renewal.name!r} renewed",)
    request = from_file(data, Request, source)
    invitation = registrar.admit_on_paper(request)
    answer = registrar.enrol(invitation, request)
    lines = (
        f"{request.name!r} is a member now, in domain {answer.domain!r}",
        f"its fingerprint          {fingerprint(request.identity_key)}",
        f"coordinator fingerprint  {fingerprint(answer.coordinator_key)}",
        "compare both by telephone with the institution",
    )
    return request.name, to_file(answer), lines
