"""Key files under an optional passphrase: scrypt (RFC 7914) turns it into keys, `cryptography` does the rest.

Raw 32-byte keys are sealed with ChaCha20-Poly1305. TLS keys are PKCS#8, which OpenSSL can read itself; its
own derivation there (PBKDF2 with 2,048 rounds, 0.4 ms a guess) would undo the protection of all the others,
so its password is not the passphrase but 256 bits of scrypt's output, and the salt stands in a line before
the PEM block, where OpenSSL looks for nothing.

All files that one change of passphrase writes share a salt: a process derives once, not once a file. Keys
for different files still differ, by label.
"""

import re
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.kdf import derive
from fedapt_crypto.pki import TlsKey

MIN_PASSPHRASE_CHARACTERS: Final = 10
SALT_BYTES: Final = 16
_LOG2_COST: Final = 17
"""2^17 blocks of 1 KiB: 128 MiB and about half a second a guess."""
_MAX_LOG2_COST: Final = 20
"""A file that asks for more is refused: 1 GiB of memory is what a hostile file could cost."""
_NONCE_BYTES: Final = 12
_MAGIC: Final = b"fedapt-secure protected key 1\n"
_PEM_LINE: Final = re.compile(rb"\Afedapt-secure scrypt 1 (\d{1,2}) ([0-9a-f]{32})\n(?=-----BEGIN ENCRYPTED)")


class Passphrase:
    """What unlocks a party's key files; derived keys are kept for as long as the object lives."""

    def __init__(self, text: str) -> None:
        self._secret = text.encode()
        self.salt: Final = secrets.token_bytes(SALT_BYTES)
        """Goes into what is protected under this object: all of it costs one derivation to open."""
        self._derived: dict[tuple[bytes, int], bytes] = {}

    def __repr__(self) -> str:
        return "Passphrase(hidden)"

    def require_strength(self) -> "Passphrase":
        """Return itself; raises `InvalidInput` where it is too short to be of use for new files."""
        if len(self._secret.decode()) < MIN_PASSPHRASE_CHARACTERS:
            raise InvalidInput(
                f"the passphrase is too short: take at least {MIN_PASSPHRASE_CHARACTERS} characters,"
                " better five random words"
            )
        return self

    def key(self, salt: bytes, log2_cost: int, purpose: str) -> bytes:
        """Return the 32-byte key for one purpose; slow on the first use of a salt."""
        if (salt, log2_cost) not in self._derived:
            scrypt = Scrypt(salt=salt, length=32, n=1 << log2_cost, r=8, p=1)
            self._derived[salt, log2_cost] = scrypt.derive(self._secret)
        return derive(self._derived[salt, log2_cost], "protected key", purpose)


def is_protected(data: bytes) -> bool:
    """Whether a key file's content is under a passphrase."""
    return data.startswith(_MAGIC) or b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data


def protect(secret: bytes, purpose: str, passphrase: Passphrase) -> bytes:
    """Return a raw key's file content under a passphrase; ``purpose`` is bound to it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    key = passphrase.key(passphrase.salt, _LOG2_COST, purpose)
    head = _MAGIC + bytes((_LOG2_COST,)) + passphrase.salt + nonce
    # The head is authenticated too: cost and salt cannot be exchanged unnoticed.
    return head + ChaCha20Poly1305(key).encrypt(nonce, secret, head)


def unprotect(data: bytes, purpose: str, passphrase: Passphrase) -> bytes:
    """Return the raw key in what `protect` made for the same purpose.

    Raises:
        InvalidInput: If the passphrase is wrong, or the file was changed or made for another purpose.
    """
    start = len(_MAGIC)
    head_end = start + 1 + SALT_BYTES + _NONCE_BYTES
    if not data.startswith(_MAGIC) or len(data) < head_end or not 1 <= data[start] <= _MAX_LOG2_COST:
        raise InvalidInput("not a protected key file of this program")
    salt = data[start + 1 : start + 1 + SALT_BYTES]
    key = passphrase.key(salt, data[start], purpose)
    try:
        return ChaCha20Poly1305(key).decrypt(
            data[head_end - _NONCE_BYTES : head_end], data[head_end:], data[:head_end]
        )
    except InvalidTag:
        raise InvalidInput("the passphrase is wrong, or the file was changed") from None


def protect_pem(key: TlsKey, purpose: str, passphrase: Passphrase) -> bytes:
    """Return a TLS key's file content under a passphrase."""
    line = f"fedapt-secure scrypt 1 {_LOG2_COST} {passphrase.salt.hex()}\n".encode()
    password = passphrase.key(passphrase.salt, _LOG2_COST, purpose).hex().encode()
    return line + key.private_pem(password)


def pem_password(data: bytes, purpose: str, passphrase: Passphrase) -> bytes:
    """Return the password of a protected PEM file, as OpenSSL takes it.

    Args:
        data: The PEM file.
        purpose: What the key is for, so that equal passphrases give different passwords.
        passphrase: What its owner types.

    Raises:
        InvalidInput: If the line that says how to derive it is missing, as in a file of another program.
    """
    found = _PEM_LINE.match(data)
    if found is None or not 1 <= int(found[1]) <= _MAX_LOG2_COST:
        raise InvalidInput("not a protected key file of this program")
    return passphrase.key(bytes.fromhex(found[2].decode()), int(found[1]), purpose).hex().encode()
