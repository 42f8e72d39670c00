"""What a process says of itself is true, private and never in the way; what ``client status`` makes of it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedapt_client import status
from fedapt_client.activity import ActivityFile, What, read_activity
from fedapt_client.activity_words import activity_line
from fedapt_client.diary import Diary
from fedapt_client.session import actions
from fedapt_client.session.states import State
from fedapt_secure.log.line import WITNESSED
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from tests.protocol.federation import Federation

SESSION = bytes(range(16))
DEAD = 2**22 + 1
"""No process has this number: it is above Linux' limit."""


class Clock:
    """One time for both clocks."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 29, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path, clock: Clock) -> ActivityFile:
    return ActivityFile(tmp_path / "activity.json", now=clock, clock=clock.seconds)


def line(path: Path, *, running: bool = True) -> str:
    doing, last = status.activity_of(path, running)
    return activity_line({"running": running, "doing": doing, "last": last})


class TestTheFile:
    def test_is_private_and_whole_at_any_moment(self, file: ActivityFile, tmp_path: Path) -> None:
        for number in range(20):
            file.set(What.TRAINING, round=number, rounds=20)
            assert read_activity(tmp_path / "activity.json") == file.activity
        assert [path.name for path in tmp_path.iterdir()] == ["activity.json"]
        assert (tmp_path / "activity.json").stat().st_mode & 0o777 == 0o600

    def test_since_is_when_it_began_and_not_when_it_was_said_again(
        self, file: ActivityFile, clock: Clock
    ) -> None:
        file.set(What.READY, session="ab")
        began = file.activity.since
        clock.pass_(100)
        file.set(What.READY, session="ab")
        assert file.activity.since == began
        file.set(What.TRAINING, session="ab", round=1)
        assert file.activity.since == "2026-11-29T12:01:40+00:00"

    def test_percentages_are_written_once_a_second(
        self, file: ActivityFile, clock: Clock, tmp_path: Path
    ) -> None:
        path, writes, inode = tmp_path / "activity.json", 0, 0
        for done in range(1, 1001):
            clock.pass_(0.01)
            file.encoded(done, 1000)
            if path.stat().st_mtime_ns != inode:
                writes, inode = writes + 1, path.stat().st_mtime_ns
        assert writes <= 11
        assert read_activity(path).percent >= 90
        assert file.activity.since == "2026-11-29T12:00:00+00:00"

    def test_away_is_counted_from_the_first_process_that_saw_nobody(
        self, file: ActivityFile, clock: Clock, tmp_path: Path
    ) -> None:
        file.set(What.AWAY)
        clock.pass_(3600)
        again = ActivityFile(tmp_path / "activity.json", now=clock, clock=clock.seconds)
        again.set(What.AWAY)
        assert line(tmp_path / "activity.json").endswith("since 2026-11-29T12:00:00+00:00")
        again.set(What.WAITING)
        clock.pass_(60)
        again.set(What.AWAY)
        assert line(tmp_path / "activity.json").endswith("since 2026-11-29T13:01:00+00:00")

    def test_a_full_disk_stops_nobody_and_leaves_nothing_that_is_wrong(
        self, file: ActivityFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("fedapt_client.activity.os.open", full)
            file.set(What.TRAINING, round=1)
        assert not (tmp_path / "activity.json").exists()
        assert "cannot be told" in line(tmp_path / "activity.json")
        file.set(What.READY)
        assert "takes part" in line(tmp_path / "activity.json")

    @pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"what":"dancing","since":"x","process":1}'])
    def test_what_cannot_be_read_claims_nothing(self, rubbish: bytes, tmp_path: Path) -> None:
        (tmp_path / "activity.json").write_bytes(rubbish)
        assert line(tmp_path / "activity.json", running=False) == "no"
        assert "cannot be told" in line(tmp_path / "activity.json")


class TestProcesses:
    def test_of_one_that_is_gone_it_says_what_it_did_last(self, tmp_path: Path) -> None:
        script = (
            "import os, signal, sys; from pathlib import Path\n"
            "from fedapt_client.activity import ActivityFile, What\n"
            "ActivityFile(Path(sys.argv[1])).set(What.TRAINING, round=3, rounds=9)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        path = tmp_path / "activity.json"
        subprocess.run([sys.executable, "-c", script, path], check=False, env=os.environ, timeout=60)
        assert line(path, running=False).startswith("no; last: training, round 3 of 9, since 20")
        assert "cannot be told" in line(path), "another runs, and could not write: this is not what it does"

    def test_a_number_that_is_no_process(self, file: ActivityFile, tmp_path: Path) -> None:
        changed = json.loads((tmp_path / "activity.json").read_text()) | {"process": DEAD}
        (tmp_path / "activity.json").write_text(json.dumps(changed))
        assert "cannot be told" in line(tmp_path / "activity.json")

    def test_the_error_that_ended_it(self, file: ActivityFile, tmp_path: Path) -> None:
        file.set(What.TRAINING, round=2, rounds=5)
        file.stopped_by(Reason.NO_SPACE)
        said = line(tmp_path / "activity.json", running=False)
        assert said == "no; last: training, round 2 of 5, since 2026-11-29T12:00:00+00:00, stopped: no_space"


class Machine:
    """Stands where a test puts it."""

    def __init__(self) -> None:
        federation = Federation(3)
        self.state = State.WAITING_FOR_OFFER
        self.configuration = federation.configuration
        self.session_id = federation.configuration.session
        self.joined = federation.configuration.session


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def diary(machine: Machine, file: ActivityFile) -> Diary:
    return Diary(machine, file)


class TestWhatASessionDoes:
    @pytest.mark.parametrize("state", State)
    def test_every_state_has_its_words_or_is_noted_where_it_begins(
        self, state: State, machine: Machine, diary: Diary, tmp_path: Path
    ) -> None:
        expected = {
            State.WAITING_FOR_OFFER: "waiting for the coordinator to open a session",
            State.JOINING: "takes part, waiting",
            State.READY: "takes part, waiting",
            State.AGGREGATING: "update handed in",
            State.CLOSING: "has signed the session's end",
            State.ENDED: "the session has ended",
        }
        machine.state = state
        diary.between()
        assert expected.get(state, "starting") in line(tmp_path / "activity.json")

    def test_work(self, machine: Machine, diary: Diary, file: ActivityFile, tmp_path: Path) -> None:
        path, configuration = tmp_path / "activity.json", machine.configuration
        diary.begins(actions.Approve(configuration))
        assert configuration.hash.hex() in line(path)
        diary.begins(actions.Prepare(configuration))
        assert "reading images" in line(path)
        file.encoded(2, 5)
        assert "encoding images, 40 %" in line(path)
        diary.begins(actions.Train(2, None, None))
        assert f"training, round 2 of {configuration.plan.rounds}" in line(path)
        machine.state = State.AGGREGATING
        diary.between()
        assert f"update handed in, round 2 of {configuration.plan.rounds}" in line(path)
        diary.begins(actions.Conclude(None, b"", ()))
        assert "finished model" in line(path)

    @pytest.mark.parametrize("final", [False, True])
    def test_who_sits_out_does_so_until_the_round_is_over(
        self, final: bool, machine: Machine, diary: Diary, tmp_path: Path
    ) -> None:
        machine.state = State.READY
        reason = Reason.BUDGET_SPENT if final else Reason.POLICY_PARTICIPANTS
        diary.sends(m.RoundDecline(round=2, attempt=1, final=final, reason=reason))
        diary.between()
        assert "sits out round 2" in line(tmp_path / "activity.json")
        assert reason in line(tmp_path / "activity.json")
        diary.logs(WITNESSED)
        assert ("all later ones" if final else "waiting for the coordinator") in line(
            tmp_path / "activity.json"
        )

    def test_who_has_refused(
        self, machine: Machine, diary: Diary, file: ActivityFile, tmp_path: Path
    ) -> None:
        machine.state = State.OUT
        diary.sends(m.SessionRefuse(reason=Reason.NO_SPACE))
        diary.between()
        said = line(tmp_path / "activity.json")
        assert "does not take part for now (no_space: its disk is full)" in said
        file.set(What.OUT, reason="no_space", again="2026-11-29T12:05:00+00:00")
        assert "looks at the session again at 2026-11-29T12:05:00" in line(tmp_path / "activity.json")

    def test_who_waits_for_its_people_still_does_when_the_process_has_ended(
        self, machine: Machine, diary: Diary, tmp_path: Path
    ) -> None:
        diary.begins(actions.Approve(machine.configuration))
        machine.state = State.OUT
        diary.sends(m.SessionRefuse(reason=Reason.NOT_APPROVED))
        assert "no; last: waiting for approval" in line(tmp_path / "activity.json", running=False)

    def test_everything_that_can_go_on_has_words(self, file: ActivityFile, tmp_path: Path) -> None:
        for what in What:
            file.set(what)
            assert line(tmp_path / "activity.json").startswith("yes: ")
