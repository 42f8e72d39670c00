"""The coordinator's own certificate under clocks that are right, wrong, or set while the service runs."""

import contextlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fedapt_client.membership import enrolment
from fedapt_crypto.errors import InvalidInput, PeerError
from fedapt_crypto.pki import CA_LIFETIME
from fedapt_secure.log.writer import LogWriter
from fedapt_server.membership.certifying import ClockDoubted
from fedapt_server.membership.own_certificate import EvenTime, OwnCertificate
from fedapt_server.membership.refused import Refused
from tests.support.offices import Office

DAY = timedelta(days=1)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def log_line(office: Office) -> None:
    """What a service writes when it starts, at the time of the office's clock."""
    path, identity = office.folder.path / office.settings.log, office.folder.identity()
    writer = LogWriter(path, party="coordinator", role="coordinator", identity=identity, clock=office.clock)
    writer.write("listening", {"host": "localhost", "port": 1})
    writer.close()


def own(office: Office) -> OwnCertificate:
    return OwnCertificate(office.folder, office.registrar, office.clock)


def pass_days(office: Office, days: int) -> datetime:
    """Let a service run for so many days, with a line in the log every ten of them; return the true time."""
    for _ in range(days // 10):
        office.clock.pass_(days=10)
        log_line(office)
    return office.clock.now


@pytest.mark.parametrize("wrong_by", [-4000, -400, -40, -2, 0, 1, 2, 19, 29, 31, 59, 61, 89, 400, 3000, 4000])
@pytest.mark.parametrize("age", [10, 50, 70])
def test_no_clock_makes_one_that_is_not_valid_at_the_true_time(
    office: Office, age: int, wrong_by: int
) -> None:
    true = pass_days(office, age)
    assert office.folder.certificate().valid(true)
    office.clock.now += wrong_by * DAY
    for attempt in (own(office).ready, office.registrar.renew_own):
        with contextlib.suppress(InvalidInput):
            attempt()
        assert office.folder.certificate().valid(true)


def test_it_is_renewed_when_it_is_due_and_once(office: Office) -> None:
    before = office.folder.certificate().serial
    pass_days(office, 50)
    assert own(office).ready() is None
    assert office.folder.certificate().serial == before
    pass_days(office, 20)
    assert own(office).ready() is None
    renewed = office.folder.certificate()
    assert renewed.serial != before
    assert renewed.not_after == office.clock.now + 90 * DAY
    assert not renewed.renewal_due(office.clock.now + 45 * DAY), "or it would be renewed all the time"
    assert own(office).ready() is None
    assert office.folder.certificate().serial == renewed.serial


@pytest.mark.parametrize("days", [1, 2, 30, 397])
@pytest.mark.parametrize("rest", [0.1, 0.7, 1.0])
def test_a_renewed_one_is_not_due_again_at_once(tmp_path: Path, days: int, rest: float) -> None:
    office = Office(tmp_path, days=days)
    office.clock.now += min(rest * days, 29) * DAY
    about = office.registrar.renew_own()
    assert not about.renewal_due(office.clock.now)


def test_a_long_rest_is_said_once_and_is_no_reason_to_end_while_it_is_valid(office: Office) -> None:
    log_line(office)
    office.clock.pass_(days=45)
    one = own(office)
    said = one.ready()
    assert "45 days after the log's last line" in said
    assert one.ready() is None
    office.clock.pass_(days=46)
    with pytest.raises(InvalidInput, match="91 days after the log's last line .*--clock-is-right"):
        one.ready()
    assert office.registrar.renew_own(clock_is_right=True).valid(office.clock.now)
    assert own(office).ready() is None


def test_a_clock_that_is_set_while_the_service_runs(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    log_line(office)
    one = own(office)
    assert one.ready() is None
    started = office.clock.now
    monkeypatch.setattr(EvenTime, "__call__", lambda _: even[0])
    for days in range(0, 89, 8):  # months without a line are no doubt
        even = [started + days * DAY]
        office.clock.now = even[0]
        assert one.ready() is None
    renewed = office.folder.certificate()
    assert renewed.not_after > started + 90 * DAY
    office.clock.pass_(days=40)
    assert "40 days after what it said a moment ago" in one.ready()
    assert office.folder.certificate() == renewed


def test_even_time_runs() -> None:
    time = EvenTime()
    first = time()
    assert first <= time() < first + DAY


def test_a_coordinator_without_the_authority_s_key_says_so_too(office: Office) -> None:
    one = OwnCertificate(office.folder, None, office.clock)
    assert one.ready() is None
    office.clock.pass_(days=91)
    with pytest.raises(InvalidInput, match="expired on .* no institution would accept it"):
        one.ready()


def test_nothing_is_signed_beyond_the_authority(office: Office) -> None:
    office.clock.now += CA_LIFETIME + DAY
    with pytest.raises(InvalidInput, match="the federation's authority is valid from"):
        office.registrar.renew_own(clock_is_right=True)
    office.clock.now -= 2 * DAY
    authority = office.folder.authority()
    about = office.registrar.renew_own(clock_is_right=True)
    assert about.not_after == authority._certificate.not_valid_after_utc


class TestMembers:
    def test_they_are_certified_while_the_coordinator_s_own_is_valid(self, office: Office) -> None:
        join, folder = office.invite(days=90), office.institution()
        request = enrolment.begin(folder, join)
        true = office.clock.now
        for days in (-2, 91):
            office.clock.now = true + days * DAY
            with pytest.raises((Refused, ClockDoubted)):
                office.registrar.enrol(*office.registrar.admit(join.token, request.to_bytes()))
        office.clock.now = true
        attempts = office.registrar.membership.invitation(request.invitation).attempts
        assert attempts == 0, "whoever asks has done nothing wrong"
        assert office.registrar.enrol(*office.registrar.admit(join.token, request.to_bytes()))

    def test_one_that_was_made_under_a_wrong_clock_is_made_again_for_the_same_key(
        self, office: Office
    ) -> None:
        join, folder = office.invite(days=90), office.institution()
        request = enrolment.begin(folder, join)

        def asked():
            return office.registrar.enrol(*office.registrar.admit(join.token, request.to_bytes()))

        def finish(answer) -> None:
            enrolment.finish(folder, join, request, answer, enrolment.Options())

        office.clock.pass_(days=20)
        early = asked()
        assert asked().certificate == early.certificate, "the same request gets the same"
        with pytest.raises(InvalidInput, match="was not installed"):
            finish(early)
        office.clock.pass_(days=-20)
        right = asked()
        assert right.certificate != early.certificate
        finish(right)
        renewal = enrolment.begin_renewal(folder, enrolment.load_federation(folder))
        office.clock.pass_(days=20)
        federation = enrolment.load_federation(folder)
        before = folder.certificate()
        with pytest.raises(InvalidInput, match="was not installed"):
            enrolment.finish_renewal(folder, federation, renewal, office.registrar.renew(renewal))
        assert folder.certificate() == before
        office.clock.pass_(days=-20)
        enrolment.finish_renewal(folder, federation, renewal, office.registrar.renew(renewal))
        # All four are revoked with their member, those that were never used too.
        office.registrar.revoke("clinic-1", "")
        assert len(office.registrar.membership.revocations) == 4

    def test_a_peer_s_mistake_is_still_one(self, office: Office) -> None:
        folder = office.enrol()
        renewal = enrolment.begin_renewal(folder, enrolment.load_federation(folder))
        with pytest.raises(PeerError):
            office.registrar.renew(renewal.model_copy(update={"name": "clinic-2"}))


def test_an_attempt_that_was_interrupted_is_finished_by_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(office.folder), "install_certificate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            office.registrar.renew_own()
    assert office.registrar.renew_own().valid(office.clock.now)
