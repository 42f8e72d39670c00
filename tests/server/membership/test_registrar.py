"""Who becomes a member and who does not, without sockets: every way a request can be wrong."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.membership import enrolment
from fedapt_crypto.certificates import check_issued, facts, read_revocation_list
from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.pki import TlsKey
from fedapt_crypto.roster import sign_entry
from fedapt_crypto.seal import SealingKey
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.join_string import JoinString, fresh_token, paper_key, token_id
from fedapt_server.membership.enrolment_desk import EnrolmentDesk, State
from fedapt_server.membership.founding import check_free, found, write_settings
from fedapt_server.membership.refused import Refused
from fedapt_server.membership.registrar import Registrar
from fedapt_server.membership.store import MAX_ATTEMPTS
from tests.support.offices import Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


class Asker:
    """Somebody with a join string and keys, who makes a request and may change anything in it."""

    def __init__(self, join: JoinString) -> None:
        self.join = join
        self.identity, self.sealing, self.tls = Identity.generate(), SealingKey.fresh(), TlsKey.generate()

    def request(
        self, *, signer: Identity | None = None, key: bytes | None = None, **changes: object
    ) -> e.Request:
        fields = {
            "name": self.join.name,
            "authority_fingerprint": self.join.authority_fingerprint,
            "identity_key": self.identity.public_key,
            "sealing_key": self.sealing.public_key,
            "certificate_request": self.tls.request(self.join.name),
            "invitation": token_id(self.join.token),
            "authenticator": bytes(32),
            "signature": e.UNSIGNED,
        } | changes
        if "entry_signature" not in fields:
            parts = (fields["authority_fingerprint"], self.join.coordinator_fingerprint, fields["name"])
            fields["entry_signature"] = sign_entry(self.identity, *parts, fields["sealing_key"])
        unsigned = e.Request.model_validate(fields)
        proof = e.authenticator(unsigned, key or paper_key(self.join.token))
        return e.signed(signer or self.identity, unsigned.model_copy(update={"authenticator": proof}))


def enrol(registrar: Registrar, join: JoinString, request: e.Request) -> e.Certified:
    return registrar.enrol(*registrar.admit(join.token, request.to_bytes()))


class TestEnrolment:
    def test_what_a_new_member_gets(self, office: Office) -> None:
        asker = Asker(office.invite("clinic-1", "ink"))
        answer = enrol(office.registrar, asker.join, asker.request())
        e.check_signature(answer, office.registrar.coordinator_key, signer="coordinator")
        about = check_issued(answer.certificate, office.folder.authority_file.read_bytes())
        assert (about.name, about.public_key) == ("clinic-1", asker.tls.public_key)
        assert (answer.domain, answer.federation) == ("ink", "test")
        [member] = office.roster().check(office.registrar.coordinator_key).members
        assert (member.identity_key, member.sealing_key) == (
            asker.identity.public_key,
            asker.sealing.public_key,
        )

    def test_the_same_again_gets_the_same_certificate(self, office: Office) -> None:
        asker = Asker(office.invite())
        first, second = (enrol(office.registrar, asker.join, asker.request()) for _ in range(2))
        assert first.certificate == second.certificate
        assert first.request_hash != second.request_hash  # each answer fits its request
        assert office.registrar.membership.revision[0] == 1
        office.clock.pass_(days=2)
        with pytest.raises(Refused, match="expired"):
            enrol(office.registrar, asker.join, asker.request())

    @pytest.mark.parametrize("other", ["identity", "sealing", "tls"])
    def test_a_used_token_is_of_no_use_with_other_keys(self, office: Office, other: str) -> None:
        asker = Asker(office.invite())
        enrol(office.registrar, asker.join, asker.request())
        setattr(asker, other, getattr(Asker(asker.join), other))
        with pytest.raises(Refused, match="used before, with other keys") as caught:
            enrol(office.registrar, asker.join, asker.request())
        assert caught.value.told == "token_refused"

    def test_two_who_share_a_token_are_not_both_let_in(self, office: Office) -> None:
        join = office.invite()
        first, second = Asker(join), Asker(join)
        admitted = [
            office.registrar.admit(join.token, asker.request().to_bytes()) for asker in (first, second)
        ]
        office.registrar.enrol(*admitted[0])
        with pytest.raises(Refused):
            office.reopened().enrol(*admitted[1])
        assert [m.identity_key for m in office.registrar.membership.members] == [first.identity.public_key]


TOKENS: dict[str, tuple[Callable[[Office, JoinString], bytes], str]] = {
    "unknown": (lambda office, join: fresh_token(), "no invitation"),
    "guessed": (lambda office, join: join.token[:8] + bytes(24), "only begins like"),
    "one bit off": (lambda office, join: join.token[:-1] + bytes((join.token[-1] ^ 1,)), "only begins like"),
    "expired": (lambda office, join: office.clock.pass_(days=2) or join.token, "expired"),
    "void": (lambda office, join: office.invite() and join.token, "withdrawn"),
    "withdrawn": (lambda office, join: office.registrar.revoke("clinic-1", "") or join.token, "withdrawn"),
}


class TestTokens:
    @pytest.mark.parametrize("case", TOKENS)
    def test_every_bad_one_gets_the_same_answer(self, office: Office, case: str) -> None:
        join = office.invite()
        make, why = TOKENS[case]
        token = make(office, join)
        with pytest.raises(Refused, match=why) as caught:
            office.registrar.admit(token, Asker(join).request().to_bytes())
        assert caught.value.told == "token_refused"
        assert office.registrar.membership.members == ()

    def test_one_of_a_member_who_was_revoked(self, office: Office) -> None:
        asker = Asker(office.invite())
        enrol(office.registrar, asker.join, asker.request())
        office.registrar.revoke("clinic-1", "left")
        with pytest.raises(Refused, match="its member was revoked") as caught:
            enrol(office.registrar, asker.join, asker.request())
        assert caught.value.told == "token_refused"

    def test_after_too_many_attempts_the_right_one_is_refused_too(self, office: Office) -> None:
        join = office.invite()
        wrong = join.token[:8] + bytes(24)
        for _ in range(MAX_ATTEMPTS):
            with pytest.raises(Refused):
                office.registrar.admit(wrong, b"")
        with pytest.raises(Refused, match="tried too often") as caught:
            office.registrar.admit(join.token, Asker(join).request().to_bytes())
        assert caught.value.told == "token_refused"

    def test_they_are_kept_as_hashes_only(self, office: Office) -> None:
        join = office.invite()
        kept = b"".join(path.read_bytes() for path in office.folder.path.iterdir())
        assert join.token not in kept
        assert join.token.hex().encode() not in kept


BAD_REQUESTS: dict[str, Callable[[Asker], e.Request]] = {
    "another's signature": lambda a: a.request(signer=Identity.generate()),
    "another name": lambda a: a.request(name="clinic-2"),
    "another name in the certificate request": lambda a: a.request(
        certificate_request=a.tls.request("clinic-2")
    ),
    "the coordinator's name": lambda a: a.request(certificate_request=a.tls.request("coordinator")),
    "another federation": lambda a: a.request(authority_fingerprint=bytes(32)),
    "another invitation": lambda a: a.request(invitation=bytes(8)),
    "another authenticator": lambda a: a.request(key=bytes(32)),
    "no certificate request": lambda a: a.request(certificate_request=b"rubbish"),
    "an identity key that is none": lambda a: a.request(identity_key=b"\xff" * 32),
    "changed after signing": lambda a: a.request().model_copy(
        update={"sealing_key": SealingKey.fresh().public_key}
    ),
}


class TestRequests:
    @pytest.mark.parametrize("case", BAD_REQUESTS)
    def test_what_is_refused(self, office: Office, case: str) -> None:
        asker = Asker(office.invite())
        request = BAD_REQUESTS[case](asker)
        with pytest.raises(Refused):
            office.registrar.admit(asker.join.token, request.to_bytes())
        with pytest.raises(Refused):
            office.registrar.admit_on_paper(request)
        found = office.registrar.membership.invitation(token_id(asker.join.token))
        assert found is not None
        assert 1 <= found.attempts <= 2
        enrol(office.registrar, asker.join, asker.request())  # the right one is still accepted

    def test_a_sealing_key_that_is_none(self, office: Office) -> None:
        asker = Asker(office.invite())
        request = asker.request(sealing_key=b"\xff" * 1216)
        for admit in (
            lambda: office.registrar.admit(asker.join.token, request.to_bytes()),
            lambda: office.registrar.admit_on_paper(request),
        ):
            with pytest.raises(Refused, match="sealing key is none"):
                admit()

    @settings(max_examples=30, deadline=None)
    @given(data=st.binary(max_size=200))
    def test_bytes_are_refused_in_one_way(
        self, data: bytes, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        office = getattr(type(self), "_office", None) or Office(tmp_path_factory.mktemp("office"))
        type(self)._office = office
        with pytest.raises(Refused):
            office.registrar.admit(office.invite().token, data)


class TestDesk:
    """The conversation's order, and that a refusal ends it."""

    def test_enrolment(self, office: Office) -> None:
        asker, desk = Asker(office.invite()), EnrolmentDesk(office.registrar, None)
        request = asker.request()
        challenge = desk.receive(
            e.Enrol(token=asker.join.token, request=request.to_bytes()).to_bytes()
        ).message
        assert isinstance(challenge, e.Challenge)
        assert office.registrar.membership.members == ()  # nothing before the proof
        opened = asker.sealing.open(challenge.sealed, *e.challenge_info(e.request_hash(request)))
        answer = desk.receive(e.Proof(opened=opened).to_bytes())
        assert isinstance(answer.message, e.Certified)
        assert (answer.event, desk.state) == ("enrolled", State.ENDED)

    def test_without_the_sealing_key_nobody_is_enrolled(self, office: Office) -> None:
        asker, desk = Asker(office.invite()), EnrolmentDesk(office.registrar, None)
        desk.receive(e.Enrol(token=asker.join.token, request=asker.request().to_bytes()).to_bytes())
        answer = desk.receive(e.Proof(opened=bytes(32)).to_bytes())
        assert isinstance(answer.message, e.NotAccepted)
        assert office.registrar.membership.members == ()

    @pytest.mark.parametrize(
        "message",
        [
            e.Proof(opened=bytes(32)),
            e.RosterWanted(),
            e.Renew(renewal=b""),
            e.Enrol(token=bytes(32), request=b""),
        ],
        ids=lambda message: message.kind,
    )
    def test_out_of_turn_or_without_a_certificate(self, office: Office, message: e.TaggedMessage) -> None:
        desk = EnrolmentDesk(office.registrar, None)
        answer = desk.receive(message.to_bytes())
        assert isinstance(answer.message, e.NotAccepted)
        assert desk.state is State.ENDED
        assert isinstance(desk.receive(e.RosterWanted().to_bytes()).message, e.NotAccepted)

    @given(data=st.binary(max_size=400))
    @settings(max_examples=50, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        registrar = object()
        answer = EnrolmentDesk(registrar, None).receive(data)  # type: ignore[arg-type]
        assert isinstance(answer.message, e.NotAccepted)

    def test_a_token_is_in_no_log(self, office: Office) -> None:
        join = office.invite()
        answer = EnrolmentDesk(office.registrar, None).receive(
            e.Enrol(token=join.token, request=b"rubbish").to_bytes()
        )
        assert join.token.hex() not in repr(answer)
        assert repr(join.token)[2:-1] not in repr(answer)


class TestRenewal:
    def renewal(self, office: Office, folder: PartyFolder, nonce: bytes) -> e.Renewal:
        return enrolment.begin_renewal(folder, enrolment.load_federation(folder), nonce)

    def test_a_member_gets_a_certificate_on_a_new_key(self, office: Office) -> None:
        folder, nonce = office.enrol(), bytes(range(32))
        before, federation = folder.certificate(), enrolment.load_federation(folder)
        renewal = self.renewal(office, folder, nonce)
        answer = office.registrar.renew(renewal, nonce)
        enrolment.finish_renewal(folder, federation, renewal, answer)
        assert folder.certificate().public_key != before.public_key
        assert folder.certificate().serial != before.serial
        assert office.registrar.renew(renewal, nonce).certificate == answer.certificate  # the answer was lost

    def test_not_with_another_nonce_identity_or_federation(self, office: Office) -> None:
        folder = office.enrol()
        renewal = self.renewal(office, folder, bytes(range(32)))
        with pytest.raises(Refused, match="another connection"):
            office.registrar.renew(renewal, bytes(32))
        forged = e.signed(Identity.generate(), renewal)
        with pytest.raises(Refused, match="signature"):
            office.registrar.renew(forged, bytes(range(32)))
        foreign = renewal.model_copy(update={"authority_fingerprint": bytes(32)})
        with pytest.raises(Refused, match="another federation"):
            office.registrar.renew(e.signed(folder.identity(), foreign), bytes(range(32)))

    def test_not_for_one_who_was_revoked(self, office: Office) -> None:
        folder = office.enrol()
        renewal = self.renewal(office, folder, bytes(range(32)))
        office.registrar.revoke("clinic-1", "")
        with pytest.raises(Refused, match="is not a member"):
            office.registrar.renew(renewal, bytes(range(32)))


class TestRosterAndRevocation:
    def test_a_revision_is_signed_once(self, office: Office) -> None:
        office.enrol("clinic-1")
        first = office.roster()
        assert office.roster() == office.reopened().roster_file() == first
        office.enrol("clinic-2", "chalk")
        second = office.roster()
        assert (first.revision, second.revision) == (1, 2)
        assert second.domains == ("ink", "chalk")
        assert second.content.names == ("clinic-1", "clinic-2")
        assert office.folder.roster() == second.content

    def test_a_forged_one_is_refused(self, office: Office) -> None:
        office.enrol()
        roster = office.roster()
        for change in ({"revision": 2}, {"changed": 0}, {"domains": ("chalk",)}, {"federation": "other"}):
            with pytest.raises(VerificationFailed):
                roster.model_copy(update=change).check(office.registrar.coordinator_key)
        mallory = Identity.generate()
        with pytest.raises(VerificationFailed, match="another coordinator"):
            e.signed(mallory, roster).check(mallory.public_key)

    def test_revocation_reaches_the_list_and_the_roster(self, office: Office) -> None:
        first = office.enrol("clinic-1").certificate().serial
        office.enrol("clinic-2")
        office.registrar.revoke("clinic-1", "left")
        authority = office.folder.authority_file.read_bytes()
        listed = read_revocation_list(office.folder.revocation_file.read_bytes(), authority)
        assert listed.serials == {first}
        assert office.roster().content.names == ("clinic-2",)
        office.registrar.revoke("clinic-2", "left")
        assert office.registrar.roster_file() is None
        assert not office.folder.roster_file.exists()

    def test_files_that_a_crash_left_behind_are_made_again(self, office: Office) -> None:
        first = office.enrol("clinic-1").certificate().serial
        office.enrol("clinic-2")
        office.registrar.membership.revoke(
            "clinic-1", "", now=office.registrar.now()
        )  # and then the power went
        office.reopened()
        authority = office.folder.authority_file.read_bytes()
        assert read_revocation_list(office.folder.revocation_file.read_bytes(), authority).serials == {first}
        assert office.folder.roster().names == ("clinic-2",)
        office.folder.revocation_file.write_bytes(b"rubbish")
        office.reopened()
        read_revocation_list(office.folder.revocation_file.read_bytes(), authority)


class TestInvitationBounds:
    @pytest.mark.parametrize("valid", [timedelta(0), timedelta(days=-1), timedelta(days=91)])
    def test_how_long(self, office: Office, valid: timedelta) -> None:
        with pytest.raises(InvalidInput, match="at most 90 days"):
            office.registrar.invite("clinic-1", "ink", valid)

    def test_the_coordinator_s_own_name(self, office: Office) -> None:
        with pytest.raises(InvalidInput, match="the coordinator's own name"):
            office.registrar.invite("Coordinator", "ink", timedelta(days=1))

    @pytest.mark.parametrize("name", ["hub", "HUB", "coordinator", "Coordinator"])
    def test_its_own_name_and_the_one_in_all_rosters(self, office: Office, name: str) -> None:
        hub = Registrar(office.folder, office.settings.model_copy(update={"name": "hub"}))
        with pytest.raises(InvalidInput, match="the coordinator's own name"):
            hub.invite(name, "ink", timedelta(days=1))

    @pytest.mark.parametrize("enrolled", [True, False])
    def test_it_cannot_take_an_institution_s_name_afterwards(self, office: Office, enrolled: bool) -> None:
        asker = Asker(office.invite("clinic-1", "ink"))
        if enrolled:
            enrol(office.registrar, asker.join, asker.request())
        for name in ("clinic-1", "Clinic-1"):
            with pytest.raises(InvalidInput, match="is an institution's here"):
                Registrar(office.folder, office.settings.model_copy(update={"name": name}))
        Registrar(office.folder, office.settings.model_copy(update={"name": "clinic-2"}))


class TestFounding:
    def test_once(self, office: Office) -> None:
        with pytest.raises(InvalidInput, match="is a coordinator's folder already; nothing was changed"):
            found(office.folder, office.settings)

    def test_not_among_other_things(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").touch()
        with pytest.raises(InvalidInput, match=r"is not empty \(thesis.txt\)"):
            check_free(PartyFolder(tmp_path))
        with pytest.raises(InvalidInput, match="is not a folder"):
            check_free(PartyFolder(tmp_path / "thesis.txt"))

    @pytest.mark.parametrize(
        "left", ["identity.key", "ca.key", "ca.crt", "membership.sqlite", "tls.key.next"]
    )
    def test_an_interrupted_one_is_finished(self, tmp_path: Path, left: str) -> None:
        office = Office(tmp_path / "a")
        folder = PartyFolder(tmp_path / "b")
        folder.make()
        names = ["identity.key", "sealing.key", "ca.key", "ca.crt", "membership.sqlite", "tls.key.next"]
        for name in names[: names.index(left) + 1]:  # as far as it got
            source = office.folder.path / ("tls.key" if name == "tls.key.next" else name)
            (folder.path / name).write_bytes(source.read_bytes() if name != "membership.sqlite" else b"")
            (folder.path / name).chmod(0o600)
        registrar = found(folder, office.settings)
        assert registrar.coordinator_key == office.registrar.coordinator_key
        assert facts(folder.authority_file.read_bytes()).name == "test CA"
        write_settings(folder, office.settings)
        with pytest.raises(InvalidInput, match="already"):
            found(folder, office.settings)

    def test_its_certificate_is_for_its_addresses_and_is_renewed(self, office: Office) -> None:
        before = office.folder.certificate()
        about = office.registrar.renew_own()
        assert about.name == "coordinator"
        assert about.serial != before.serial


def test_many_changes_are_published_once_and_a_failure_among_them_takes_nothing_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    registrar, published = office.registrar, []
    real = registrar._publication.publish
    monkeypatch.setattr(registrar._publication, "publish", lambda: published.append(1) or real())

    def change_much() -> None:
        with registrar.many():
            for name in ("clinic-a", "clinic-b"):
                join, _ = registrar.invite(name, "ink", timedelta(hours=1))
                enrol(registrar, join, Asker(join).request())
            assert not published
            enrol(registrar, join, Asker(join).request())

    with pytest.raises(Refused):
        change_much()
    assert len(published) == 1
    assert registrar.folder.roster().names == ("clinic-a", "clinic-b")
    registrar.revoke("clinic-a", "left")
    assert len(published) == 2
