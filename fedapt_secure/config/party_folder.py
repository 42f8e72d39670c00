"""The folder of one party: its keys, certificates and approved roster, each file 0600.

Private keys are made in here and never leave it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity, fingerprint
from fedapt_crypto.pki import Certificate, read_certificate
from fedapt_crypto.private_files import make_private_folder, read_private, write_atomically
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey

PUBLIC_FILE_MODE = 0o644


@dataclass(frozen=True)
class PartyFolder:
    """Where a party keeps what is its own."""

    path: Path

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
    def authority_file(self) -> Path:
        """Certificate of the federation's authority, PEM."""
        return self.path / "ca.crt"

    @property
    def roster_file(self) -> Path:
        """The roster this party has approved, JSON."""
        return self.path / "roster.json"

    def create(self) -> tuple[Identity, SealingKey]:
        """Make the folder and fresh keys in it.

        Raises:
            InvalidInput: If there are keys already; they are never overwritten.
        """
        try:
            make_private_folder(self.path)
        except OSError as error:
            raise InvalidInput(f"cannot make the folder {self.path}: {error.strerror}") from None
        if self.identity_file.exists() or self.sealing_file.exists():
            raise InvalidInput(f"{self.path} already holds keys; they are not overwritten")
        identity, root = Identity.generate(), SealingKey.fresh_root()
        write_atomically(self.identity_file, identity.private_bytes())
        write_atomically(self.sealing_file, root)
        return identity, SealingKey(root)

    def install_certificate(self, certificate: Certificate, authority_pem: bytes) -> None:
        """Store the TLS certificate, its key, and the authority to trust."""
        write_atomically(self.private_key_file, certificate.private_key_pem)
        write_atomically(self.certificate_file, certificate.certificate_pem)
        write_atomically(self.authority_file, authority_pem)

    def approve_roster(self, roster: Roster) -> None:
        """Store the roster against which everything is verified from now on."""
        write_atomically(self.roster_file, roster_to_json(roster).encode())

    def identity(self) -> Identity:
        """Load the signing key; raises `InvalidInput` where it is missing, readable by others or broken."""
        return Identity.from_private_bytes(self._key(self.identity_file))

    def sealing_key(self) -> SealingKey:
        """Load the key to which others seal; raises `InvalidInput` as `identity` does."""
        return SealingKey(self._key(self.sealing_file))

    def roster(self) -> Roster:
        """Load the approved roster; raises `InvalidInput` where it is missing or broken."""
        return roster_from_json(read_private(self.roster_file), self.roster_file)

    def certificate_fields(self) -> dict[str, str]:
        """Return name, fingerprint and validity of the TLS certificate, for the log.

        Raises:
            InvalidInput: If there is no certificate.
        """
        try:
            facts = read_certificate(self.certificate_file.read_bytes())
        except OSError as error:
            raise InvalidInput(f"{self.certificate_file}: {error.strerror or error}") from None
        return {
            "name": facts.name,
            "fingerprint": facts.fingerprint,
            "not_before": facts.not_before.isoformat(),
            "not_after": facts.not_after.isoformat(),
        }

    def _key(self, path: Path) -> bytes:
        data = read_private(path)
        if len(data) != 32:
            raise InvalidInput(f"{path} is not a key file of this program")
        return data


def roster_to_json(roster: Roster) -> str:
    """Return a roster for people and auditors: names, domains, fingerprints and public keys."""
    members = [
        {
            "name": member.name,
            "domain_index": member.domain_index,
            "fingerprint": fingerprint(member.identity_key),
            "identity_key": member.identity_key.hex(),
            "sealing_key": member.sealing_key.hex(),
        }
        for member in roster.members
    ]
    fields = {
        "roster_hash": roster.hash.hex(),
        "coordinator_fingerprint": fingerprint(roster.coordinator_key),
        "coordinator_key": roster.coordinator_key.hex(),
        "members": members,
    }
    return json.dumps(fields, indent=2) + "\n"


def roster_from_json(data: bytes, source: Path) -> Roster:
    """Read what `roster_to_json` wrote; the stored hash and fingerprints must fit.

    Raises:
        InvalidInput: If the file is not a roster or does not fit its own hash.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        roster = Roster.model_validate(
            {
                "coordinator_key": bytes.fromhex(fields["coordinator_key"]),
                "members": tuple(
                    {
                        "name": member["name"],
                        "identity_key": bytes.fromhex(member["identity_key"]),
                        "sealing_key": bytes.fromhex(member["sealing_key"]),
                        "domain_index": member["domain_index"],
                    }
                    for member in fields["members"]
                ),
            }
        )
        whole = roster_to_json(roster).encode() == data
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        whole = False
    if not whole:
        raise InvalidInput(f"{source} is not a roster, or was edited; get it again and approve it")
    return roster
