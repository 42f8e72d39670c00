"""The one-time string that an institution gets from the coordinator's operator, by mail or on paper.

``fedapt1-`` and base64url of the canonical encoding and a checksum. White space in it, as mail programs
add, does not matter; a wrong character is noticed before anything is sent. Whoever has it can enrol in the
invited name, once: it is a secret until then.
"""

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

from fedapt_crypto.encoding import Hash, Message, PartyName
from fedapt_crypto.errors import InvalidInput, MalformedMessage
from fedapt_crypto.kdf import derive, digest, labelled

PREFIX: Final = "fedapt1-"
TOKEN_BYTES: Final = 32
TOKEN_ID_BYTES: Final = 8
MAX_CHARACTERS: Final = 4096
_CHECK_BYTES: Final = 4

Address = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9:][A-Za-z0-9._:-]*$")]
"""A host name or IP address."""
Port = Annotated[int, Field(ge=1, le=65535)]
Token = Annotated[bytes, Field(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]


class JoinString(Message):
    """What is in it.

    Attributes:
        addresses: Where the coordinator is reached, in the order in which to try.
        port: Of its enrolment service.
        authority_fingerprint: SHA-256 of the authority's certificate (DER), which is pinned.
        coordinator_fingerprint: SHA-256 of the coordinator's identity key.
        name: The invited institution.
        token: What proves the invitation; its first bytes name it, the rest is the secret.
        expires: When the invitation ends, in seconds since 1970 (UTC).
    """

    max_bytes = 2048

    addresses: Annotated[tuple[Address, ...], Field(min_length=1, max_length=8)]
    port: Port
    authority_fingerprint: Hash
    coordinator_fingerprint: Hash
    name: PartyName
    token: Token
    expires: Annotated[int, Field(ge=0, lt=1 << 40)]

    def to_text(self) -> str:
        """Return the string to hand over."""
        data = self.to_bytes()
        return PREFIX + base64.urlsafe_b64encode(data + _checksum(data)).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> "JoinString":
        """Read a string as somebody pasted it.

        Raises:
            InvalidInput: If it is not a join string, incomplete or mistyped, or of another version.
        """
        text = "".join(text[: 2 * MAX_CHARACTERS].split())
        if not text.startswith(PREFIX):
            if text.startswith("fedapt") and "-" in text[:12]:
                raise InvalidInput("the join string is of another version: update fedapt-secure")
            raise InvalidInput(f"not a join string: it begins with {PREFIX!r}")
        body = text.removeprefix(PREFIX)
        try:
            if len(body) > MAX_CHARACTERS:
                raise ValueError  # noqa: TRY301 - one refusal for every way it can be mistyped
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            payload, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
            if check != _checksum(payload) or base64.urlsafe_b64encode(data).decode().rstrip("=") != body:
                raise ValueError  # noqa: TRY301
            return cls.from_bytes(payload)
        except (ValueError, MalformedMessage):
            raise InvalidInput("the join string is incomplete or mistyped: copy all of it again") from None

    @property
    def expires_at(self) -> datetime:
        """When the invitation ends."""
        return datetime.fromtimestamp(self.expires, UTC)


def fresh_token() -> bytes:
    """Draw the token of a new invitation."""
    return secrets.token_bytes(TOKEN_BYTES)


def token_id(token: bytes) -> bytes:
    """Return the part of a token that names the invitation and is no secret."""
    return token[:TOKEN_ID_BYTES]


def token_hash(token: bytes) -> bytes:
    """Return what the coordinator keeps of a token: enough to recognise it, not to use it."""
    return digest("enrolment token", token)


def paper_key(token: bytes) -> bytes:
    """Return the key that authenticates requests which carry no token, because they travel as files."""
    return derive(token, "enrolment on paper")


def authenticate(key: bytes, *parts: bytes) -> bytes:
    """Return the HMAC-SHA-256 under a `paper_key`; compare in constant time."""
    return hmac.digest(key, labelled("enrolment request", *parts), hashlib.sha256)


def _checksum(data: bytes) -> bytes:
    return digest("join string", data)[:_CHECK_BYTES]
