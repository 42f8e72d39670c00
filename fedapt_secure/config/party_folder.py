"""The folder of one party: its keys, certificates and approved roster, each file 0600.

Private keys are made in here and never leave it.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from fedapt_crypto.certificates import CertificateFacts, check_issued, facts
from fedapt_crypto.decoding_cost import json_fits
from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed, system_error
from fedapt_crypto.identity import FINGERPRINT_BITS, Identity, fingerprint
from fedapt_crypto.pki import CertificateAuthority, TlsKey
from fedapt_crypto.private_files import make_private_folder, read_private, write_atomically
from fedapt_crypto.protected_keys import Passphrase
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.sharing import shared
from fedapt_secure.config.key_files import KeyFile, change_passphrase

PUBLIC_FILE_MODE = 0o644


@dataclass(frozen=True)
class PartyFolder:
    """Where a party keeps what is its own.

    Attributes:
        path: The folder.
        passphrase: What protects the key files; ``None`` for what the environment says, if anything.
    """

    path: Path
    passphrase: Passphrase | None = None

    @property
    def identity_file(self) -> Path:
        """Ed25519 private key, 32 raw bytes."""
        return self.path / "identity.key"

    @property
    def sealing_file(self) -> Path:
        """Root of the hybrid key to which others seal, 32 raw bytes."""
        return self.path / "sealing.key"

    @property
    def certificate_file(self) -> Path:
        """TLS certificate, PEM."""
        return self.path / "tls.crt"

    @property
    def private_key_file(self) -> Path:
        """TLS private key, PEM."""
        return self.path / "tls.key"

    @property
    def next_certificate_file(self) -> Path:
        """A renewed certificate that is about to take its place."""
        return self.path / "tls.crt.next"

    @property
    def next_private_key_file(self) -> Path:
        """The TLS key for which a certificate was asked; takes its place with it."""
        return self.path / "tls.key.next"

    @property
    def authority_file(self) -> Path:
        """Certificate of the federation's authority, PEM."""
        return self.path / "ca.crt"

    @property
    def authority_key_file(self) -> Path:
        """Private key of the federation's authority, PEM; at the coordinator only."""
        return self.path / "ca.key"

    @property
    def revocation_file(self) -> Path:
        """Certificates that are no longer to be trusted, signed by the authority (CRL, PEM)."""
        return self.path / "crl.pem"

    @property
    def roster_file(self) -> Path:
        """The roster this party has approved, JSON."""
        return self.path / "roster.json"

    def make(self) -> None:
        """Make the folder, for its owner only; raises `InvalidInput` where that cannot be."""
        try:
            make_private_folder(self.path)
        except OSError as error:
            raise system_error(f"cannot make the folder {self.path}", error) from None

    def create(self) -> tuple[Identity, SealingKey]:
        """Make the folder and fresh keys in it.

        Raises:
            InvalidInput: If there are keys already; they are never overwritten.
        """
        self.make()
        if self.identity_file.exists() or self.sealing_file.exists():
            raise InvalidInput(f"{self.path} already holds keys; they are not overwritten")
        return self.complete_keys()

    def complete_keys(self) -> tuple[Identity, SealingKey]:
        """Make those long-term keys that are not there yet, and return both; for what was interrupted."""
        if not self.identity_file.exists():
            self._file(self.identity_file).write_raw(Identity.generate().private_bytes())
        if not self.sealing_file.exists():
            self._file(self.sealing_file).write_raw(SealingKey.fresh_root())
        return self.identity(), self.sealing_key()

    def pending_tls_key(self) -> TlsKey:
        """Return the TLS key for which a certificate is to be asked; made on the first call."""
        self.settle()  # or a new key would take the place of one whose certificate has come
        file = self._file(self.next_private_key_file)
        if not file.path.exists():
            file.write_pem(TlsKey.generate())
        return file.read_pem()

    def install_certificate(self, certificate_pem: bytes, authority_pem: bytes) -> None:
        """Store a certificate for the pending TLS key, and the authority to trust.

        Raises:
            VerificationFailed: If it is for another key, or not of this authority.
            MalformedMessage: If it is not a certificate.
        """
        issued = check_issued(certificate_pem, authority_pem)
        if issued.public_key != self.pending_tls_key().public_key:
            raise VerificationFailed("the certificate is for another key than the one it was asked for")
        write_atomically(self.authority_file, authority_pem)
        write_atomically(self.next_certificate_file, certificate_pem)
        self.settle()

    def settle(self) -> None:
        """Let a renewed key and its certificate take their place, also after an interrupted attempt.

        The waiting certificate says that its key is there too: it is written after the key and moved
        after the key, so whatever was interrupted, doing the rest again ends well.
        """
        if not self.next_certificate_file.exists():
            return
        with suppress(FileNotFoundError):  # moved already, or by another process just now
            self.next_private_key_file.replace(self.private_key_file)
        with suppress(FileNotFoundError):
            self.next_certificate_file.replace(self.certificate_file)

    def approve_roster(self, roster: Roster) -> None:
        """Store the roster against which everything is verified from now on."""
        write_atomically(self.roster_file, roster_to_json(roster).encode())

    def identity(self) -> Identity:
        """Load the signing key; raises `InvalidInput` where it is missing, readable by others or broken."""
        return Identity.from_private_bytes(self._file(self.identity_file).read_raw())

    def sealing_key(self) -> SealingKey:
        """Load the key to which others seal; raises `InvalidInput` as `identity` does."""
        return SealingKey(self._file(self.sealing_file).read_raw())

    def authority(self) -> CertificateAuthority:
        """Load the federation's authority; raises `InvalidInput` where its files are missing or broken."""
        try:
            return CertificateAuthority.load(read_private(self.authority_file), self.authority_key())
        except InvalidInput as error:
            where = "" if str(self.path) in str(error) else f"{self.path}: "
            raise InvalidInput(f"{where}{error}") from None

    def authority_key(self) -> TlsKey:
        """Load the authority's private key."""
        return self._file(self.authority_key_file).read_pem()

    def store_authority_key(self, key: TlsKey) -> None:
        """Store the authority's private key."""
        self._file(self.authority_key_file).write_pem(key)

    def roster(self) -> Roster:
        """Load the approved roster; raises `InvalidInput` where it is missing or broken."""
        return roster_from_json(read_private(self.roster_file), self.roster_file)

    def certificate(self) -> CertificateFacts:
        """Return what the TLS certificate says; raises `InvalidInput` where it is missing or broken."""
        self.settle()
        try:
            return facts(read_private(self.certificate_file))
        except MalformedMessage as error:
            raise InvalidInput(f"{self.certificate_file}: {error}") from None

    def certificate_fields(self) -> dict[str, str]:
        """Return name, fingerprint and validity of the TLS certificate, for the log; see `certificate`."""
        certificate = self.certificate()
        return {
            "name": certificate.name,
            "fingerprint": certificate.fingerprint.hex(),
            "not_before": certificate.not_before.isoformat(),
            "not_after": certificate.not_after.isoformat(),
        }

    def tls_password(self) -> bytes | None:
        """Return the password under which OpenSSL can read the TLS key's file, if it is protected."""
        return self._file(self.private_key_file).password()

    @property
    def protected(self) -> bool:
        """Whether any key file is under a passphrase."""
        return any(file.protected for file in (*self._raw(), *self._pem()) if file.path.exists())

    def change_passphrase(self, new: Passphrase | None) -> tuple[Path, ...]:
        """Put all key files under a new passphrase or none, see `key_files.change_passphrase`."""
        return change_passphrase(self._raw(), self._pem(), new)

    def _raw(self) -> tuple[KeyFile, ...]:
        return tuple(map(self._file, (self.identity_file, self.sealing_file)))

    def _pem(self) -> tuple[KeyFile, ...]:
        paths = (self.private_key_file, self.next_private_key_file, self.authority_key_file)
        return tuple(map(self._file, paths))

    def _file(self, path: Path) -> KeyFile:
        # A TLS key is renamed when its certificate comes: both names are one purpose.
        return KeyFile(path, path.name.removesuffix(".next"), self.passphrase)


_FIELDS_BEFORE_ENTRIES_WERE_SIGNED: Final = {
    "roster_hash",
    "coordinator_fingerprint",
    "coordinator_key",
    "members",
}


def roster_to_json(roster: Roster) -> str:
    """Return a roster for people and auditors: names, domains, fingerprints and public keys."""
    return shared("roster for people", roster.to_bytes(), lambda: _to_json(roster))


def _to_json(roster: Roster, *, groups: int = FINGERPRINT_BITS // 16) -> str:
    shown = slice(5 * groups - 1)
    members = [
        {
            "name": member.name,
            "domain_index": member.domain_index,
            "fingerprint": fingerprint(member.identity_key)[shown],
            "identity_key": member.identity_key.hex(),
            "sealing_key": member.sealing_key.hex(),
            "entry_signature": member.entry_signature.hex(),
        }
        for member in roster.members
    ]
    fields = {
        "roster_hash": roster.hash.hex(),
        "authority_fingerprint": roster.authority_fingerprint.hex(),
        "coordinator_fingerprint": fingerprint(roster.coordinator_key)[shown],
        "coordinator_key": roster.coordinator_key.hex(),
        "members": members,
    }
    return json.dumps(fields, indent=2) + "\n"


def roster_from_json(data: bytes, source: Path) -> Roster:
    """Read what `roster_to_json` wrote; the stored hash and fingerprints must fit.

    Raises:
        InvalidInput: If the file is not a roster or does not fit its own hash, or an entry in it is not
            its owner's.
    """
    return shared("roster of a file", data, lambda: _from_json(data, source))


def _from_json(data: bytes, source: Path) -> Roster:
    is_old = False
    try:
        if not json_fits(data):
            raise ValueError  # noqa: TRY301 - one refusal for every way in which a file is no roster
        fields: dict[str, Any] = json.loads(data)
        is_old = isinstance(fields, dict) and fields.keys() == _FIELDS_BEFORE_ENTRIES_WERE_SIGNED
        roster = Roster.model_validate(
            {
                "authority_fingerprint": bytes.fromhex(fields["authority_fingerprint"]),
                "coordinator_key": bytes.fromhex(fields["coordinator_key"]),
                "members": tuple(
                    {
                        "name": member["name"],
                        "identity_key": bytes.fromhex(member["identity_key"]),
                        "sealing_key": bytes.fromhex(member["sealing_key"]),
                        "domain_index": member["domain_index"],
                        "entry_signature": bytes.fromhex(member["entry_signature"]),
                    }
                    for member in fields["members"]
                ),
            }
        )
        # Approved before fingerprints had 160 bits, it says the first 128 of them: that is the same roster.
        whole = data in (roster_to_json(roster).encode(), _to_json(roster, groups=8).encode())
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        whole = False
    if is_old:
        raise InvalidInput(
            f"{source} is from before members signed their entries: at each institution run 'fedapt-secure"
            " client renew', then 'fedapt-secure client roster show' and approve the new one"
        )
    if not whole:
        raise InvalidInput(f"{source} is not a roster, or was edited; get it again and approve it")
    try:
        roster.check_entries()
    except VerificationFailed as error:
        raise InvalidInput(
            f"{source} cannot be relied on: {error}; get it again, compare its fingerprint with what the"
            " others read out, and approve it"
        ) from None
    return roster
