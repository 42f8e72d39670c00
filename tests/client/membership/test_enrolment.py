"""An institution's folder through enrolment and renewal: interrupted anywhere, it goes on from there."""

import os
import signal
from pathlib import Path

import pytest
import yaml

from fedapt_client.membership import enrolment
from fedapt_client.membership.templates import CLIENT
from fedapt_client.settings import ClientSettings
from fedapt_crypto.certificates import to_der
from fedapt_crypto.errors import InvalidInput, PeerError, VerificationFailed
from fedapt_crypto.identity import fingerprint_bytes
from fedapt_crypto.pki import TlsKey
from fedapt_secure.config.annotated import fill
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.join_string import JoinString
from tests.support.offices import HOST, Clock, Office

COMPLETE = [
    "ca.crt", "client.yaml", "federation.json", "identity.key", "sealing.key", "tls.crt", "tls.key",
]  # fmt: skip
OPTIONS = enrolment.Options(host=HOST, data=Path("/srv/images"))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def enrol(office: Office, folder: PartyFolder, join: JoinString) -> None:
    """The whole of an enrolment, as `client enroll` does it, without the connection."""
    request = enrolment.begin(folder, join)
    if request is not None:
        answer = office.registrar.enrol(*office.registrar.admit(join.token, request.to_bytes()))
        enrolment.finish(folder, join, request, answer, OPTIONS)


def snapshot(folder: PartyFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


def dying(work, syscall: int) -> int:
    """Do something in a child process that is killed at a change of the file system; return its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = syscall

    def mortal(function):
        def counted(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted

    try:
        for name in ("replace", "unlink", "mkdir", "chmod", "touch"):
            setattr(Path, name, mortal(getattr(Path, name)))
        work()
        os._exit(0)
    finally:
        os._exit(1)


class TestEnrolment:
    def test_what_is_in_the_folder_afterwards(self, office: Office) -> None:
        folder = office.institution()
        enrol(office, folder, office.invite())
        assert sorted(snapshot(folder)) == COMPLETE
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {0o600}
        written = build(ClientSettings, read_yaml(folder.path / "client.yaml"), source="client.yaml")
        assert (written.name, written.host, written.port) == ("clinic-1", HOST, office.settings.port)
        assert written.data == Path("/srv/images")

    def test_private_keys_do_not_leave(self, office: Office) -> None:
        join, folder = office.invite(), office.institution()
        request = enrolment.begin(folder, join)
        assert request is not None
        sent = request.to_bytes()
        for name in ("identity.key", "sealing.key"):
            assert (folder.path / name).read_bytes() not in sent
        key = TlsKey.from_pem(folder.next_private_key_file.read_bytes())
        number = key.private_key.private_numbers().private_value.to_bytes(32, "big")
        assert number not in sent
        assert join.token not in sent  # not in the file of the offline route either

    def test_the_same_join_string_again_changes_nothing(self, office: Office) -> None:
        join, folder = office.invite(), office.institution()
        enrol(office, folder, join)
        before = snapshot(folder)
        enrol(office, folder, join)
        assert snapshot(folder) == before

    def test_another_join_string_is_refused(self, office: Office) -> None:
        folder = office.institution()
        enrol(office, folder, office.invite())
        before = snapshot(folder)
        with pytest.raises(InvalidInput, match="is enrolled already, as 'clinic-1' in 'test'"):
            enrolment.begin(folder, office.invite("clinic-2"))
        assert snapshot(folder) == before

    def test_keys_of_something_else_are_left_alone(self, office: Office) -> None:
        folder = office.institution()
        folder.create()
        before = snapshot(folder)
        with pytest.raises(InvalidInput, match="already holds keys of something else"):
            enrolment.begin(folder, office.invite())
        assert snapshot(folder) == before

    def test_an_expired_join_string_is_named_and_leaves_nothing(self, office: Office) -> None:
        folder = office.institution()
        with pytest.raises(InvalidInput, match="has expired: ask the coordinator's operator"):
            enrolment.begin(folder, office.invite(), now=office.clock.now.replace(year=2100))
        assert list(folder.path.iterdir()) == []

    def test_a_coordinator_s_key_of_small_order_is_refused(self, office: Office) -> None:
        """Under it a signature that anybody can write down is good for every answer."""
        neutral = (1).to_bytes(32, "little")
        folder, real = office.institution(), office.invite()
        join = real.model_copy(update={"coordinator_fingerprint": fingerprint_bytes(neutral)})
        request = enrolment.begin(folder, join)
        assert request is not None
        answer = office.registrar.certifier.member(request.certificate_request, "clinic-1")[1]
        forged = e.Certified(
            name="clinic-1", domain="ink", federation="test", certificate=to_der(answer),
            authority=office.registrar.authority_der, coordinator_name="coordinator",
            coordinator_key=neutral, rounds_port=1, request_hash=e.request_hash(request),
            signature=neutral + bytes(32),
        )  # fmt: skip
        e.check_signature(forged, neutral, signer="coordinator")  # it verifies
        with pytest.raises(VerificationFailed, match="none that an honest party has"):
            enrolment.finish(folder, join, request, forged, OPTIONS)
        assert not folder.certificate_file.exists()

    def test_an_edited_settings_file_is_not_overwritten(self, office: Office) -> None:
        folder = office.institution()
        folder.make()
        (folder.path / "client.yaml").write_text("# mine\n")
        enrol(office, folder, office.invite())
        assert (folder.path / "client.yaml").read_text() == "# mine\n"

    def test_a_new_invitation_takes_over_what_an_expired_one_began(self, office: Office) -> None:
        folder = office.institution()
        first = enrolment.begin(folder, office.invite())
        assert first is not None
        enrol(office, folder, office.invite())  # the first is void now
        assert folder.identity().public_key == first.identity_key

    def test_killed_at_any_change_it_is_finished_by_running_it_again(self, office: Office) -> None:
        for change in range(1, 100):
            name = f"clinic-{change}"
            join, folder = office.invite(name), office.institution(name)
            status = dying(lambda join=join, folder=folder: enrol(office, folder, join), change)
            enrol(office, folder, join)
            assert enrolment.load_federation(folder).name == name
            own = folder.identity().public_key, folder.sealing_key().public_key
            record = office.registrar.membership.member(name)
            assert record is not None
            assert own == (record.identity_key, record.sealing_key)
            key = TlsKey.from_pem(folder.private_key_file.read_bytes())
            assert folder.certificate().public_key == key.public_key
            assert sorted(snapshot(folder)) == COMPLETE
            if status == 0:
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
        assert change > 15


class TestRenewal:
    def renew(self, office: Office, folder: PartyFolder) -> None:
        federation = enrolment.load_federation(folder)
        renewal = enrolment.begin_renewal(folder, federation, bytes(32))
        enrolment.finish_renewal(folder, federation, renewal, office.registrar.renew(renewal))

    def test_killed_at_any_change_key_and_certificate_fit(self, tmp_path: Path) -> None:
        clock = Clock()
        clock.pass_(days=-45)  # or what comes would begin later than this machine's clock
        office = Office(tmp_path, clock=clock)
        folder = office.enrol()
        for change in range(1, 40):
            office.clock.pass_(days=1)
            before = folder.certificate().serial
            status = dying(lambda: self.renew(office, folder), change)
            folder.settle()
            key = TlsKey.from_pem(folder.private_key_file.read_bytes())
            assert folder.certificate().public_key == key.public_key
            if status == 0:
                assert folder.certificate().serial != before
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
        assert change > 4
        self.renew(office, folder)

    def test_when_it_is_due(self, office: Office) -> None:
        folder = office.enrol()
        now = office.clock.now
        assert not enrolment.renewal_due(folder, now)
        office.clock.pass_(days=61)
        assert enrolment.renewal_due(folder, office.clock.now)


class TestOnPaper:
    def test_enrolment_and_renewal(self, office: Office) -> None:
        join, folder = office.invite(), office.institution()
        request = enrolment.begin(folder, join)
        assert request is not None
        travelled = e.from_file(b"Dear operator,\n\n" + e.to_file(request) + b"\n-- \n", e.Request, "mail")
        answer = office.registrar.enrol(office.registrar.admit_on_paper(travelled), travelled)
        arrived = e.from_file(e.to_file(answer).replace(b"\n", b"\r\n"), e.Certified, "mail")
        enrolment.finish_from_file(folder, arrived, OPTIONS)
        before = folder.certificate().serial
        renewal = enrolment.begin_renewal(folder, enrolment.load_federation(folder))
        renewed = office.registrar.renew(renewal)
        with pytest.raises(PeerError, match="another request"):
            enrolment.finish_from_file(folder, arrived, OPTIONS)  # the old answer
        enrolment.finish_from_file(folder, renewed, OPTIONS)
        assert folder.certificate().serial != before
        with pytest.raises(InvalidInput, match="waits for no answer"):
            enrolment.finish_from_file(folder, renewed, OPTIONS)

    def test_an_answer_to_nothing(self, office: Office) -> None:
        folder = office.institution()
        folder.make()
        answer_to_another = office.enrol("clinic-2")
        renewal = enrolment.begin_renewal(answer_to_another, enrolment.load_federation(answer_to_another))
        with pytest.raises(
            InvalidInput, match=r"waits for no answer: run 'fedapt-secure client csr -' first"
        ):
            enrolment.finish_from_file(folder, office.registrar.renew(renewal), OPTIONS)

    def test_whoever_sees_the_file_cannot_use_it_with_other_keys(self, office: Office) -> None:
        join, folder = office.invite(), office.institution()
        request = enrolment.begin(folder, join)
        assert request is not None
        thief = office.institution("thief")
        thief.create()
        forged = request.model_copy(update={"identity_key": thief.identity().public_key})
        with pytest.raises(PeerError, match="does not come from whoever has the join string"):
            office.registrar.admit_on_paper(e.signed(thief.identity(), forged))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"rubbish",
            b"-----BEGIN FEDAPT CERTIFICATE ANSWER-----\n!\n-----END FEDAPT CERTIFICATE ANSWER-----",
        ],
    )
    def test_what_is_no_file_of_this_kind(self, data: bytes) -> None:
        with pytest.raises(InvalidInput, match=r"x\.answer") as caught:
            e.from_file(data, e.Certified, "x.answer")
        assert "\n" not in str(caught.value)


class TestTemplate:
    def test_it_shows_every_setting_and_its_default(self) -> None:
        values = {
            "name": "clinic-1", "host": "h", "port": 8443, "enrolment_port": 8444, "proxy": None,
            "data": "data", "device": "auto",
        }  # fmt: skip
        text = fill(CLIENT, values)
        assert build(ClientSettings, yaml.safe_load(text), source="template").device == "auto"
        commented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
        hidden = [line for line in commented if line.split(":")[0] in ClientSettings.model_fields]
        everything = yaml.safe_load(text) | yaml.safe_load("\n".join(hidden))
        assert everything.keys() == ClientSettings.model_fields.keys()
        assert build(ClientSettings, everything, source="template") == ClientSettings(**values)
