"""A running institution renews its certificate in time, and lives with a coordinator that does not answer."""

from pathlib import Path
from typing import Any

from fedapt_client.membership.renewal import PAUSE_S, Renewal
from fedapt_client.settings import ClientSettings
from tests.support.offices import HOST, Clock, Office, run


def renewal(office: Office, written: list[tuple[str, dict[str, Any]]], now: list[float]) -> Renewal:
    settings = ClientSettings(
        name="clinic-1", host=HOST, port=1, enrolment_port=office.settings.enrolment_port, data=Path("x")
    )
    return Renewal(office.institution(), settings, lambda *line: written.append(line), clock=lambda: now[0])


def test_in_the_last_third_and_not_before(tmp_path: Path) -> None:
    for days, due in ((90, False), (20, True)):
        clock = Clock()
        clock.pass_(days=-(days * 3 // 4) if due else 0)
        office = Office(tmp_path / str(days), clock=clock, days=days)
        before = office.enrol().certificate()
        clock.pass_(days=days * 3 // 4 if due else 0)
        written: list[tuple[str, dict[str, Any]]] = []

        async def once(office: Office = office, written: list[tuple[str, dict[str, Any]]] = written) -> None:
            async with office.serving():
                await renewal(office, written, [0.0]).if_due()

        run(once())
        after = office.institution().certificate()
        assert (after.not_after > before.not_after) == due
        assert [kind for kind, _ in written] == (["certificate"] if due else [])


def test_a_failure_is_a_warning_and_is_not_repeated_at_once(tmp_path: Path, caplog) -> None:
    clock = Clock()
    clock.pass_(days=-80)
    office = Office(tmp_path, clock=clock)
    office.enrol()
    written: list[tuple[str, dict[str, Any]]] = []
    now = [0.0]
    one = renewal(office, written, now)
    for time_s, warnings in ((0.0, 1), (PAUSE_S / 2, 1), (PAUSE_S, 2)):
        now[0] = time_s
        run(one.if_due())
        said = [record for record in caplog.records if record.event == "renewal_failed"]
        assert len(said) == warnings
    assert written == []
