"""The revocation list beside whoever checks it: read again when the file changes, never by restarting.

A list that is unreadable, not the authority's, or older than the one in use does not replace it: the last
good one stays, and whoever looks is told. Without any good list nobody can be let in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedapt_crypto.certificates import RevocationList, read_revocation_list
from fedapt_crypto.errors import CertificateRefused, InvalidInput, PeerError
from fedapt_crypto.private_files import read_private


@dataclass
class Revocations:
    """Which certificates are revoked, as of the last change of the file.

    Args:
        path: The list, PEM.
        authority_pem: The authority that must have signed it.

    Raises:
        InvalidInput: If there is no good list to begin with.
    """

    path: Path
    authority_pem: bytes
    _list: RevocationList = field(init=False, repr=False)
    _seen: tuple[int, int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._seen = self._stamp()
        self._list = self._read()

    @property
    def serials(self) -> frozenset[int]:
        """Serial numbers of all revoked certificates, as of the last `refresh`."""
        return self._list.serials

    def refresh(self) -> frozenset[int]:
        """Look at the file again; return the serial numbers that are new on the list.

        Raises:
            InvalidInput: If the file changed and is not a good list; the last good one stays in use, and
                this is said once for each change.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return frozenset()
        self._seen = stamp
        read = self._read()
        if read.number < self._list.number:
            raise InvalidInput(f"{self.path} is older than the list in use, which stays: restore the newest")
        new = read.serials - self._list.serials
        self._list = read
        return new

    def check(self, serial: int, name: str, report: Callable[[str], None]) -> None:
        """Refuse a revoked certificate; looks at the file first.

        Args:
            serial: Its serial number.
            name: Whose it is.
            report: Told about a file that cannot be used; the last good list decides then.

        Raises:
            CertificateRefused: If the certificate is revoked.
        """
        try:
            self.refresh()
        except InvalidInput as error:
            report(str(error))
        if serial in self._list.serials:
            raise CertificateRefused(
                "this certificate was revoked: ask the coordinator's operator for a new invitation", peer=name
            )

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return 0, 0, 0  # reading it will say what is the matter
        # Every list is a new file (written aside and renamed), so its inode tells apart even two of one tick.
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> RevocationList:
        try:
            return read_revocation_list(read_private(self.path), self.authority_pem)
        except PeerError as error:
            raise InvalidInput(f"{self.path}: {error}") from None
