"""Who belongs to the federation: the decisions behind invitations, certificates, roster and revocation.

No sockets here. The enrolment service, the offline commands and `simulate` all ask the same registrar, so
there is one way to become a member.
"""

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from fedapt_crypto.certificates import CertificateFacts, facts, request_key, to_der
from fedapt_crypto.errors import InvalidInput, MalformedMessage, PeerError, VerificationFailed
from fedapt_crypto.identity import fingerprint_bytes
from fedapt_crypto.roster import COORDINATOR, Member
from fedapt_crypto.seal import seal
from fedapt_secure.config.locking import locked
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.enrolment_refusals import EnrolmentRefusal as Told
from fedapt_secure.protocol.joining.join_string import (
    TOKEN_BYTES,
    JoinString,
    fresh_token,
    paper_key,
    token_hash,
    token_id,
)
from fedapt_server.membership.certifying import Certifier
from fedapt_server.membership.publication import Publication
from fedapt_server.membership.records import Invitation, MemberRecord
from fedapt_server.membership.refused import Refused, told
from fedapt_server.membership.store import MAX_ATTEMPTS, Membership
from fedapt_server.settings import ServerSettings

MEMBERSHIP_FILE: Final = "membership.sqlite"
MAX_VALIDITY: Final = timedelta(days=90)
NO_NONCE: Final = bytes(e.CHALLENGE_BYTES)
"""Stands for the nonce in a renewal that travels as a file."""


class Registrar:
    """The coordinator's office of records.

    Args:
        folder: The coordinator's folder, as `founding.found` left it.
        settings: Its settings.
        clock: What time it is, for tests.

    Raises:
        InvalidInput: If a file is missing or broken.
    """

    def __init__(
        self,
        folder: PartyFolder,
        settings: ServerSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.membership = Membership(folder.path / MEMBERSHIP_FILE)
        self._clock = clock
        self._identity = folder.identity()
        self._authority = folder.authority()
        self.authority_der = to_der(self._authority.certificate_pem)
        self._authority_fingerprint = facts(self.authority_der).fingerprint
        self.membership.check_free(settings.name)
        self.certifier = Certifier(folder, settings, self._authority, clock)
        self._publication = Publication(
            folder, settings.federation, self.membership, self._identity, self._authority, clock
        )
        self._publication.publish()
        self._many = False

    @property
    def coordinator_key(self) -> bytes:
        """The public half of the coordinator's identity."""
        return self._identity.public_key

    @contextmanager
    def many(self) -> Iterator[None]:
        """Publish once, when the block ends, and not after every change in it.

        The records are durable as ever; what a crash leaves unpublished is published on opening.
        """
        self._many = True
        try:
            yield
        finally:
            self._many = False
            self._publish()

    def _publish(self) -> None:
        if not self._many:
            self._publication.publish()

    def now(self) -> int:
        """Return the time in seconds since 1970."""
        return int(self._clock().timestamp())

    def invite(self, name: str, domain: str, valid_for: timedelta) -> tuple[JoinString, bool]:
        """Make an invitation.

        Returns:
            What to hand over, and whether an earlier invitation of that name is void now.

        Raises:
            InvalidInput: If the name is taken, or an option is out of range.
        """
        if not timedelta(0) < valid_for <= MAX_VALIDITY:
            raise InvalidInput(f"an invitation is valid for at most {MAX_VALIDITY.days} days")
        if name.lower() in (self.settings.name.lower(), COORDINATOR):
            raise InvalidInput(f"{name!r} is the coordinator's own name: choose another")
        token, now = fresh_token(), self.now()
        join = JoinString(
            addresses=self.settings.addresses,
            port=self.settings.enrolment_port,
            authority_fingerprint=self._authority_fingerprint,
            coordinator_fingerprint=fingerprint_bytes(self.coordinator_key),
            name=name,
            token=token,
            expires=now + int(valid_for.total_seconds()),
        )
        withdrawn = self.membership.invite(
            token_id(token),
            token_hash(token),
            paper_key(token),
            name,
            domain,
            now=now,
            expires=join.expires,
        )
        return join, withdrawn

    def admit(self, token: bytes, encoded: bytes) -> tuple[Invitation, e.Request]:
        """Check a request that came with its token; changes nothing but the count of failed attempts.

        Raises:
            Refused: If the token is not good, or the request is not in order.
        """
        invitation = self._invitation(
            token_id(token),
            token_hash(token),
            lambda found: found.token_hash,
            "a token that only begins like the invitation's",
        )
        try:
            request = e.Request.from_bytes(encoded)
        except MalformedMessage as error:
            raise self._failed(invitation, str(error)) from None
        self._check_request(invitation, request)
        return invitation, request

    def admit_on_paper(self, request: e.Request) -> Invitation:
        """Check a request that came as a file: its authenticator stands for the token.

        Raises:
            Refused: As `admit` does.
        """
        found = self.membership.invitation(request.invitation)
        if found is None:
            raise Refused("no such invitation", peer=request.name)
        expected = e.authenticator(request, found.paper_key)
        invitation = self._invitation(
            request.invitation,
            request.authenticator,
            lambda _: expected,
            "the file was changed, or does not come from whoever has the join string",
        )
        self._check_request(invitation, request)
        self.challenge(invitation, request, bytes(e.CHALLENGE_BYTES))  # no answer comes, but the key is one
        return invitation

    def challenge(self, invitation: Invitation, request: e.Request, secret: bytes) -> bytes:
        """Return a secret sealed to the key that is to be enrolled: only its holder can open it.

        Raises:
            Refused: If the key is none.
        """
        try:
            return seal(request.sealing_key, secret, *e.challenge_info(e.request_hash(request)))
        except PeerError as error:
            raise self._failed(invitation, str(error), Told.REQUEST_UNSOUND) from None

    def enrol(self, invitation: Invitation, request: e.Request) -> e.Certified:
        """Make an institution a member and certify its TLS key; the same request again gets the same.

        Args:
            invitation: From `admit` or `admit_on_paper`.
            request: The request that was checked there.

        Raises:
            Refused: If the invitation was used with other keys, or a key belongs to somebody else.
        """
        name = invitation.name
        invitation = self.membership.invitation(invitation.token_id) or invitation
        if invitation.member is None:
            try:
                certificate, pem = self.certifier.member(request.certificate_request, name)
            except InvalidInput as doubt:  # no fault of whoever asks: the attempt does not count
                raise Refused(str(doubt), told=Told.CANNOT_CERTIFY, peer=name) from None
            try:
                self.membership.enrol(
                    invitation,
                    request.identity_key,
                    request.sealing_key,
                    request.entry_signature,
                    certificate,
                    now=self.now(),
                )
            except InvalidInput as error:
                raise self._failed(invitation, str(error), Told.KEY_TAKEN) from None
            self._publish()
            return self._answer(self._member(name), pem, e.request_hash(request))
        member, earlier = self._again(invitation, invitation.member, request)
        try:
            pem = self._valid(member, request.certificate_request, earlier)
        except (PeerError, InvalidInput) as error:
            raise Refused(str(error), told=told(error), peer=name) from None
        return self._answer(member, pem, e.request_hash(request))

    def _valid(self, member: MemberRecord, certificate_request: bytes, earlier: bytes | None) -> bytes:
        """Return the certificate that there is for a request, or another one where that is not valid now.

        One that was made under a wrong clock would else be given out for its key for ever.

        Raises:
            InvalidInput: If none can be made now.
        """
        self.certifier.check_clock()
        if earlier is not None and facts(earlier).valid(self._clock()):
            return earlier
        certificate, pem = self.certifier.member(certificate_request, member.name)
        self.membership.supersede(certificate.public_key)
        self.membership.certify(member.row, certificate)
        return pem

    def _again(self, invitation: Invitation, row: int, request: e.Request) -> tuple[MemberRecord, bytes]:
        """Return member and certificate for a request that repeats the one that used its invitation."""
        member = self.membership.member_of_row(row)
        key = request_key(request.certificate_request, invitation.name)
        earlier = self.membership.certificate(member.row, key)
        same_keys = (member.identity_key, member.sealing_key) == (request.identity_key, request.sealing_key)
        if member.revoked is not None or not same_keys or earlier is None:
            raise self._failed(invitation, "the invitation was used before, with other keys")
        return member, earlier

    def renew(self, renewal: e.Renewal, nonce: bytes = NO_NONCE) -> e.Certified:
        """Certify a member's next TLS key.

        Args:
            renewal: The request, signed by the member's identity.
            nonce: What it must answer to.

        Raises:
            Refused: If it is not of a member, or not in order.
        """
        member = self.membership.member(renewal.name)
        if member is None:
            raise Refused(f"{renewal.name!r} is not a member", told=Told.NOT_A_MEMBER)
        if renewal.authority_fingerprint != self._authority_fingerprint:
            foreign = "the renewal is meant for another federation"
            raise Refused(foreign, told=Told.OTHER_FEDERATION, peer=member.name)
        try:
            e.check_signature(renewal, member.identity_key, signer=member.name)
            self._check_entry(member.name, member, renewal.entry_signature)
            if not hmac.compare_digest(renewal.nonce, nonce):
                raise VerificationFailed("the renewal was asked for on another connection")
            key = request_key(renewal.certificate_request, member.name)
            earlier = self.membership.certificate(member.row, key)
            pem = self._valid(member, renewal.certificate_request, earlier)
        except (PeerError, InvalidInput) as error:
            raise Refused(str(error), told=told(error), peer=member.name) from None
        if member.entry_signature is None:
            self.membership.sign_entry(member.row, renewal.entry_signature, now=self.now())
            self._publish()
        return self._answer(member, pem, e.request_hash(renewal))

    def renew_own(
        self, *, clock_is_right: bool = False, ran_until: datetime | None = None
    ) -> CertificateFacts:
        """Renew the coordinator's own certificate, for the addresses that stand in its settings now.

        Args:
            clock_is_right: An operator says so: the clock is not held against what is known.
            ran_until: What the clock would say if it had run evenly since this process started.

        Raises:
            ClockDoubted: If the clock does not fit the log's last line or the certificate in use.
            InvalidInput: If the authority is not valid now.
        """
        with locked(self.folder.path / ".lock"):  # a person and the service may renew at the same time
            request = self.folder.pending_tls_key().request(self.settings.name)
            certificate, pem = self.certifier.own(request, clock_is_right=clock_is_right, ran_until=ran_until)
            self.membership.supersede(certificate.public_key)  # of an attempt that was interrupted here
            self.membership.certify(None, certificate)
            self.folder.install_certificate(pem, self._authority.certificate_pem)
            return self.folder.certificate()

    def revoke(self, name: str, reason: str) -> bool:
        """Take a member off the roster, revoke its certificates, and withdraw its invitation.

        Returns:
            Whether there was a member, and not only an invitation.

        Raises:
            InvalidInput: If nobody of that name is a member or invited.
        """
        was_member = self.membership.revoke(name, reason, now=self.now())
        self._publish()
        return was_member

    def roster_file(self) -> e.RosterFile | None:
        """Return the current roster, signed; ``None`` while there is no member."""
        return self._publication.roster()

    def _invitation(
        self, identifier: bytes, offered: bytes, expected: Callable[[Invitation], bytes], otherwise: str
    ) -> Invitation:
        """Return a good invitation; everything wrong with it gets the same public answer."""
        found = self.membership.invitation(identifier)
        # Compared in constant time, and with something also where nothing was found.
        right = hmac.compare_digest(offered, expected(found) if found is not None else bytes(TOKEN_BYTES))
        if found is None:
            raise Refused("a token of no invitation")
        if not right:
            raise self._failed(found, otherwise)
        if found.withdrawn:
            raise Refused("the invitation was withdrawn", peer=found.name)
        if found.expires <= self.now():
            raise Refused("the invitation has expired", peer=found.name)
        if found.attempts >= MAX_ATTEMPTS:
            raise Refused("the invitation was tried too often: make a new one", peer=found.name)
        if found.member is not None and self.membership.member_of_row(found.member).revoked is not None:
            raise Refused("the invitation was used, and its member was revoked", peer=found.name)
        return found

    def _check_request(self, invitation: Invitation, request: e.Request) -> None:
        if request.name != invitation.name:
            raise self._failed(invitation, f"the request is in the name {request.name!r}", Told.NAME_DIFFERS)
        if request.authority_fingerprint != self._authority_fingerprint:
            foreign = "the request is meant for another federation"
            raise self._failed(invitation, foreign, Told.OTHER_FEDERATION)
        try:
            expected = e.authenticator(request, invitation.paper_key)
            if request.invitation != invitation.token_id or not hmac.compare_digest(
                request.authenticator, expected
            ):
                raise VerificationFailed("the request is not authenticated by its invitation")
            e.check_signature(request, request.identity_key, signer=request.name)
            self._check_entry(request.name, request, request.entry_signature)
            request_key(request.certificate_request, invitation.name)
        except PeerError as error:
            raise self._failed(invitation, str(error), Told.REQUEST_UNSOUND) from None
        if invitation.member is not None:  # now, so that a used token is refused as early as any other
            self._again(invitation, invitation.member, request)

    def _check_entry(self, name: str, keys: e.Request | MemberRecord, signature: bytes) -> None:
        """Check a member's signature on its entry as everybody will; raises `PeerError` where it is none."""
        entry = Member(
            name=name,
            identity_key=keys.identity_key,
            sealing_key=keys.sealing_key,
            domain_index=0,
            entry_signature=signature,
        )
        entry.check(self._authority_fingerprint, fingerprint_bytes(self.coordinator_key))

    def _failed(self, invitation: Invitation, reason: str, told: Told = Told.TOKEN_REFUSED) -> Refused:
        """Count a failed attempt and return the refusal."""
        self.membership.count_attempt(invitation.token_id)
        return Refused(reason, told=told, peer=invitation.name)

    def _member(self, name: str) -> MemberRecord:
        member = self.membership.member(name)
        if member is None:
            raise Refused("revoked while it was being enrolled", peer=name)
        return member

    def _answer(self, member: MemberRecord, certificate_pem: bytes, request_hash: bytes) -> e.Certified:
        answer = e.Certified(
            name=member.name,
            domain=member.domain,
            federation=self.settings.federation,
            certificate=to_der(certificate_pem),
            authority=self.authority_der,
            coordinator_name=self.settings.name,
            coordinator_key=self.coordinator_key,
            rounds_port=self.settings.port,
            request_hash=request_hash,
            signature=e.UNSIGNED,
        )
        return e.signed(self._identity, answer)
