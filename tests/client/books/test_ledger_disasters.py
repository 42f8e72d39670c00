"""Kills, full disks and turned bits: what was acknowledged stays, and nothing is ever below the truth."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fedapt_client.books.ledger_events import PlannedSession
from fedapt_crypto.errors import InvalidInput, ReplayedExecution
from tests.client.books.ledgers import MINE, OTHER, context, images, open_ledger, terms

DRIVER = '''
"""Forks itself; each child dies at another SQL statement. Prints one JSON line a child."""
import json, os, resource, signal, sqlite3, sys
from pathlib import Path
from fedapt_crypto.errors import BudgetExhausted, ReplayedExecution, Unavailable
from tests.client.books.ledgers import MINE, OTHER, context, images, open_ledger, terms

folder, mode = Path(sys.argv[1]), sys.argv[2]

def scenario(path, done):
    """What an institution does in two rounds; ``done`` is told when each call has returned."""
    ledger = open_ledger(path)
    ledger.record_plan(terms(), images(1, 2, 3)); done("plan")
    for number in (1, 2):
        ledger.join(context(number)); done(f"join {number}")
        ledger.reserve(MINE, number, 4); done(f"reserve {number}")
        ledger.release(context(number)); done(f"release {number}")
    ledger.record_plan(terms(OTHER), images(3, 4)); done("other plan")
    ledger.reserve(OTHER, 1, 4); done("other reserve")

def child(limit, path, journal):
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    done = lambda what: os.write(descriptor, (what + "\\n").encode())
    if mode == "kill":
        count = [0]
        connect = sqlite3.connect
        def traced(*arguments, **options):
            database = connect(*arguments, **options)
            def statement(_):
                count[0] += 1
                if count[0] >= limit:
                    os.kill(os.getpid(), signal.SIGKILL)
            database.set_trace_callback(statement)
            return database
        sqlite3.connect = traced
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        done = lambda what: os.write(pipe_write, (what + "\\n").encode())
    try:
        scenario(path, done)
    except Unavailable:
        os._exit(3)
    os._exit(0)

for number, limit in enumerate(json.loads(sys.argv[3])):
    home = folder / str(number)
    home.mkdir()
    pipe_read, pipe_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(limit, home / "ledger.sqlite", home / "journal")
    _, status = os.waitpid(pid, 0)
    os.close(pipe_write)
    piped = os.fdopen(pipe_read).read()
    written = (home / "journal").read_text() if mode == "kill" else piped
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    print(json.dumps([number, limit, code, written.split("\\n")[:-1]]), flush=True)
    if code == 0 and mode == "kill":
        break
'''

STEPS = [
    "plan", "join 1", "reserve 1", "release 1", "join 2", "reserve 2", "release 2", "other plan",
    "other reserve",
]  # fmt: skip


def drive(folder: Path, mode: str, limits: list[int]) -> list[tuple[Path, int, list[str]]]:
    command = [sys.executable, "-c", DRIVER, str(folder), mode, json.dumps(limits)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(folder / str(number) / "ledger.sqlite", code, said) for number, _, code, said in lines]


def refused_as_repeated(action, one) -> bool:
    try:
        action(one)
    except ReplayedExecution:
        return True
    return False


def check_and_go_on(path: Path, said: list[str]) -> None:
    """All that was acknowledged holds; at most the next step happened as well; the rest can still be done."""
    ledger = open_ledger(path)
    assert said == STEPS[: len(said)]
    sessions = {one.terms.session: one for one in ledger.sessions}
    truth = {
        MINE: 4 * sum(f"reserve {number}" in said for number in (1, 2)),
        OTHER: 4 * ("other reserve" in said),
    }
    upcoming = STEPS[len(said)] if len(said) < len(STEPS) else ""
    for session, steps in truth.items():
        recorded = sessions[session].steps_taken if session in sessions else 0
        mine = upcoming.startswith("reserve") if session == MINE else upcoming == "other reserve"
        assert recorded in ({steps, steps + 4} if mine else {steps}), (said, recorded)
    assert (MINE in sessions) or "plan" not in said
    assert (OTHER in sessions) or "other plan" not in said
    if OTHER in sessions:
        assert sessions[OTHER].dataset == sessions[MINE].dataset

    ledger.record_plan(terms(), images(1, 2, 3))
    for number in (1, 2):
        for name, action in (("join", ledger.join), ("release", ledger.release)):
            if f"{name} {number}" in said:
                assert refused_as_repeated(action, context(number))
        ledger.reserve(MINE, number, 4)
    ledger.record_plan(terms(OTHER), images(3, 4))
    ledger.reserve(OTHER, 1, 4)
    assert [one.steps_taken for one in ledger.sessions] == [8, 4]


@pytest.mark.integration
@pytest.mark.slow  # a process for each statement
def test_killed_before_any_statement_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    results = drive(tmp_path, "kill", list(range(1, 500)))
    codes = [code for _, code, _ in results]
    assert codes[-1] == 0, "the last child reached the end"
    assert set(codes[:-1]) == {-9}
    assert len(codes) > 60
    assert {len(said) for _, _, said in results} == set(range(len(STEPS) + 1))
    for path, _, said in results:
        check_and_go_on(path, said)


@pytest.mark.integration
def test_on_a_disk_that_fills_up_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk looks like to SQLite: a write that fails."""
    limits = [0, 1, 512, 4096, 8192, 20_000, 32_768, 50_000, 65_536, 80_000, 100_000, 120_000, 131_072, 10**7]
    results = drive(tmp_path, "full", limits)
    codes = [code for _, code, _ in results]
    assert codes[-1] == 0
    assert codes.count(3) >= 4, "refused with one line, not a crash"
    assert set(codes) == {0, 3}
    for path, _, said in results:
        check_and_go_on(path, said)


def test_every_turned_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path, [MINE, OTHER])
    ledger.join(context(1))
    ledger.reserve(MINE, 1, 4)
    ledger.reserve(OTHER, 1, 4)
    ledger.release(context(1))
    truth = ledger.sessions
    whole = path.read_bytes()
    assert not path.with_name("ledger.sqlite-wal").exists()
    rng = random.Random(5)
    noticed = 0
    for position in rng.sample(range(len(whole)), 200):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        refusal = as_before_or_refused(path, truth, position)
        if refusal is not None:
            assert str(path) in refusal
            assert "\n" not in refusal
            noticed += 1
    assert noticed > 10


def as_before_or_refused(path: Path, truth: list[PlannedSession], position: int) -> str | None:
    try:
        again = open_ledger(path)
        assert again.sessions == truth, position
        assert refused_as_repeated(again.join, context(1))
        assert refused_as_repeated(again.release, context(1))
        new = again.record_plan(terms(b"\x02" * 16), images(1, 2, 3))
        assert new.dataset == truth[0].dataset
    except InvalidInput as error:
        return str(error)
    return None


def test_a_file_that_is_no_ledger_leaves_as_that(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"DOE_JANE" * 600)
    with pytest.raises(InvalidInput, match="cannot be used") as raised:
        open_ledger(tmp_path)
    assert raised.value.code == "ledger_differs"
