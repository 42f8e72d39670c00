"""Key files of a party, with or without a passphrase: read, write, and change what protects them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedapt_crypto import protected_keys
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.pki import TlsKey
from fedapt_crypto.private_files import read_private, write_atomically
from fedapt_crypto.protected_keys import Passphrase
from fedapt_secure.config import passphrase as sources

RAW_KEY_BYTES = 32
_Opened = TypeVar("_Opened", bytes, TlsKey)


@dataclass(frozen=True)
class KeyFile:
    """One file with a private key.

    Attributes:
        path: Where it is.
        purpose: What it is for; bound to its protection, so that files cannot be exchanged.
        passphrase: What protects it; ``None`` for what the environment says, if anything.
    """

    path: Path
    purpose: str
    passphrase: Passphrase | None

    @property
    def protected(self) -> bool:
        """Whether it is under a passphrase; raises `InvalidInput` where it cannot be read."""
        return protected_keys.is_protected(read_private(self.path))

    def write_raw(self, secret: bytes) -> None:
        """Store a raw key, under the passphrase if there is one."""
        chosen = self._offered()
        if chosen is not None:
            secret = protected_keys.protect(secret, self.purpose, chosen)
        write_atomically(self.path, secret)

    def write_pem(self, key: TlsKey) -> None:
        """Store a TLS key, under the passphrase if there is one."""
        chosen = self._offered()
        pem = key.private_pem() if chosen is None else protected_keys.protect_pem(key, self.purpose, chosen)
        write_atomically(self.path, pem)

    def read_raw(self) -> bytes:
        """Return a raw key.

        Raises:
            InvalidInput: If it is missing, readable by others, broken, or the passphrase does not open it.
        """
        data = read_private(self.path)
        if protected_keys.is_protected(data):
            try:
                data = protected_keys.unprotect(data, self.purpose, self._needed())
            except InvalidInput as error:
                raise InvalidInput(f"{self.path}: {error}") from None
        if len(data) != RAW_KEY_BYTES:
            raise InvalidInput(f"{self.path} is not a key file of this program")
        return data

    def read_pem(self) -> TlsKey:
        """Return a TLS key; raises `InvalidInput` as `read_raw` does."""
        try:
            return TlsKey.from_pem(read_private(self.path), self.password())
        except InvalidInput as error:
            where = "" if str(self.path) in str(error) else f"{self.path}: "
            raise InvalidInput(f"{where}{error}") from None

    def password(self) -> bytes | None:
        """Return the password under which OpenSSL can read a TLS key's file, if it is protected.

        Raises:
            InvalidInput: If it is protected and no passphrase was given, or by another program.
        """
        data = read_private(self.path)
        if not protected_keys.is_protected(data):
            return None
        needed = self._needed()
        try:
            return protected_keys.pem_password(data, self.purpose, needed)
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def _offered(self) -> Passphrase | None:
        return self.passphrase or sources.from_environment()

    def _needed(self) -> Passphrase:
        offered = self._offered()
        if offered is None:
            raise InvalidInput(
                f"{self.path} is protected by a passphrase: give it in {sources.VARIABLE} or with"
                " --passphrase-file"
            )
        return offered


def change_passphrase(
    raw: tuple[KeyFile, ...], pem: tuple[KeyFile, ...], new: Passphrase | None
) -> tuple[Path, ...]:
    """Put existing key files under a new passphrase, or under none.

    Every file is replaced whole, one after the other. Interrupted in between, some are under the old
    passphrase and some under the new: a file that the old one does not open is tried with the new one, so
    that running this again finishes it.

    Args:
        raw: Files with raw keys, with the old passphrase in them.
        pem: Files with TLS keys, likewise.
        new: What is to protect them; ``None`` for nothing.

    Returns:
        The files that were written.

    Raises:
        InvalidInput: If a file opens with neither; nothing is written then.
    """
    secrets = [(file, _open(file, new, KeyFile.read_raw)) for file in raw if file.path.exists()]
    keys = [(file, _open(file, new, KeyFile.read_pem)) for file in pem if file.path.exists()]
    for file, secret in secrets:
        data = secret if new is None else protected_keys.protect(secret, file.purpose, new)
        write_atomically(file.path, data)
    for file, key in keys:
        data = key.private_pem() if new is None else protected_keys.protect_pem(key, file.purpose, new)
        write_atomically(file.path, data)
    return tuple(file.path for file, _ in (*secrets, *keys))


def _open(file: KeyFile, new: Passphrase | None, read: Callable[[KeyFile], _Opened]) -> _Opened:
    try:
        return read(file)
    except InvalidInput:
        if new is None or not file.protected:
            raise
        return read(KeyFile(file.path, file.purpose, new))
