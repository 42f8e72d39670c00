"""What follows from the records and can be made again from them: signed roster and revocation list."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from fedapt_crypto.certificates import facts, read_revocation_list
from fedapt_crypto.errors import PeerError
from fedapt_crypto.identity import Identity
from fedapt_crypto.pki import CertificateAuthority
from fedapt_crypto.private_files import read_private, write_atomically
from fedapt_crypto.roster import Roster
from fedapt_secure.config.locking import locked
from fedapt_secure.config.party_folder import PartyFolder, roster_to_json
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_server.membership.store import Membership


class Publication:
    """Keeps the coordinator's files in step with its records.

    Args:
        folder: Where the files are.
        federation: Name of the federation.
        membership: The records.
        identity: Signs rosters.
        authority: Signs revocation lists.
        clock: What time it is.
    """

    def __init__(
        self,
        folder: PartyFolder,
        federation: str,
        membership: Membership,
        identity: Identity,
        authority: CertificateAuthority,
        clock: Callable[[], datetime],
    ) -> None:
        self._folder = folder
        self._federation = federation
        self._membership = membership
        self._identity = identity
        self._authority = authority
        self._clock = clock
        self._authority_fingerprint = facts(authority.certificate_pem).fingerprint

    def roster(self) -> e.RosterFile | None:
        """Return the current roster, signed; ``None`` while there is no member."""
        revision, changed, signed = self._membership.revision
        present = (record.as_member() for record in self._membership.members if record.revoked is None)
        members = tuple(member for member in present if member is not None)
        if not members:
            return None
        if signed is None:
            roster = Roster(
                authority_fingerprint=self._authority_fingerprint,
                coordinator_key=self._identity.public_key,
                members=members,
            )
            unsigned = e.RosterFile(
                federation=self._federation,
                revision=revision,
                changed=changed,
                domains=self._membership.domains,
                roster=roster.to_bytes(),
                signature=e.UNSIGNED,
            )
            made = e.signed(self._identity, unsigned)
            if self._membership.revision[0] != revision:
                return self.roster()  # somebody joined or left between the two questions
            self._membership.keep_signed(revision, made.to_bytes())
            signed = self._membership.revision[2] or made.to_bytes()
        return e.RosterFile.from_bytes(signed)

    def publish(self) -> None:
        """Bring the files that follow from the records up to date: revocation list and own roster.

        Called after every change and on opening, so that a crash between record and file heals itself.
        """
        with locked(self._folder.path / ".lock"):  # or an older list could replace a newer one
            self._publish()

    def _publish(self) -> None:
        revision = self._membership.revision[0]
        path = self._folder.revocation_file
        if not path.exists() or self._listed(path) != revision:
            revocations = self._membership.revocations
            write_atomically(path, self._authority.revocation_list(revocations, revision, now=self._clock()))
        signed = self.roster()
        if signed is None:
            self._folder.roster_file.unlink(missing_ok=True)
            return
        text = roster_to_json(signed.content).encode()
        if not self._folder.roster_file.exists() or self._folder.roster_file.read_bytes() != text:
            self._folder.approve_roster(signed.content)

    def _listed(self, path: Path) -> int:
        """Return the number of the list in the file, or -1 where it is to be made again."""
        try:
            return read_revocation_list(read_private(path), self._authority.certificate_pem).number
        except PeerError:
            return -1
