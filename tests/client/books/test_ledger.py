"""The ledger on real files: what is joined, spent and released stays so, whoever dies in between."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.books.ledger import Ledger
from fedapt_crypto.errors import BudgetExhausted, InvalidInput, ReplayedExecution
from fedapt_crypto.secagg.scheme import RoundContext
from tests.client.books.ledgers import MINE, OTHER, context, images, open_ledger, terms

NOBODY = 65534
BOTH = (MINE, OTHER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


class TestJoin:
    @pytest.mark.parametrize("older", [(3, 2), (3, 1), (2, 1), (2, 9), (1, 1)])
    def test_only_what_is_newer(self, path: Path, older: tuple[int, int]) -> None:
        ledger = open_ledger(path, BOTH)
        for newer in ((1, 1), (1, 2), (3, 2)):
            ledger.join(context(*newer))
        with pytest.raises(
            ReplayedExecution, match=f"round {older[0]} attempt {older[1]} is not newer than round 3"
        ):
            ledger.join(context(*older))
        ledger.join(context(3, 3))
        ledger.join(context(4, 1))

    def test_each_session_counts_for_itself(self, path: Path) -> None:
        ledger = open_ledger(path, BOTH)
        ledger.join(context(7))
        ledger.join(context(1, session=OTHER))
        with pytest.raises(ReplayedExecution):
            ledger.join(context(1))
        with pytest.raises(ReplayedExecution):
            ledger.join(context(1, session=OTHER))


class TestReserve:
    def test_once_a_round_and_never_refunded(self, path: Path) -> None:
        ledger = open_ledger(path, [MINE])
        assert not ledger.is_reserved(MINE, 1)
        assert ledger.steps_spent(MINE) == 0
        ledger.reserve(MINE, 1, 4)
        for other in (4, 1, 100):
            ledger.reserve(MINE, 1, other)
        assert ledger.steps_spent(MINE) == 4
        ledger.reserve(MINE, 2, 3)
        assert ledger.steps_spent(MINE) == 7
        assert [ledger.is_reserved(MINE, number) for number in (1, 2, 3)] == [True, True, False]
        for nothing in (0, -4):
            with pytest.raises(ValueError, match="ever given back"):
                ledger.reserve(MINE, 3, nothing)

    def test_not_beyond_the_plan(self, path: Path) -> None:
        ledger = open_ledger(path, [MINE])
        ledger.reserve(MINE, 1, 57)
        with pytest.raises(BudgetExhausted, match="4 more steps would exceed the plan \\(57 of 60"):
            ledger.reserve(MINE, 2, 4)
        ledger.reserve(MINE, 2, 3)
        assert ledger.steps_spent(MINE) == 60

    def test_another_session_spends_nothing_of_this_one(self, path: Path) -> None:
        ledger = open_ledger(path, BOTH)
        ledger.reserve(MINE, 1, 4)
        assert ledger.steps_spent(OTHER) == 0
        assert not ledger.is_reserved(OTHER, 1)


class TestRelease:
    def test_once_a_round_whatever_the_attempt(self, path: Path) -> None:
        ledger = open_ledger(path, BOTH)
        ledger.release(context(1, 1))
        for attempt in (1, 2):
            with pytest.raises(ReplayedExecution, match="round 1 was released before"):
                ledger.release(context(1, attempt))
        ledger.release(context(2))
        ledger.release(context(1, session=OTHER))


class TestPlan:
    def test_the_first_one_stays(self, path: Path) -> None:
        ledger = open_ledger(path)
        first = ledger.record_plan(terms(), images(1, 2, 3))
        assert ledger.record_plan(terms(), images(3, 2, 1)) == first
        assert open_ledger(path).record_plan(terms(), images(1, 2, 3)) == first
        assert ledger.plan(MINE) == first
        assert first.terms == terms()

    @pytest.mark.parametrize(
        "change",
        [
            {"configuration": b"\x08" * 32},
            {"mechanism": "none"},
            {"noise": "insecure-deterministic"},
            {"epsilon_budget": 8.000000000000002},
            {"delta": 1.1e-5},
            {"noise_multiplier": 1.233},
            {"sample_rate": 0.2},
            {"max_steps": 61},
            {"declared_records": 280},
        ],
    )
    def test_another_one_is_refused_and_not_stored(self, path: Path, change: dict[str, object]) -> None:
        ledger = open_ledger(path, [MINE])
        with pytest.raises(InvalidInput, match="another privacy plan on record"):
            ledger.record_plan(terms(**change), images(1, 2, 3))
        assert ledger.plan(MINE).terms == terms()
        ledger.record_plan(terms(OTHER, **change), images(1, 2, 3))

    def test_the_rule_of_composition_is_kept_as_it_was_accepted(self, path: Path) -> None:
        ledger = open_ledger(path, [MINE])
        again = ledger.record_plan(terms(composition="rdp-filter", rdp_order=3.0), images(1, 2, 3))
        assert again.terms == terms() == ledger.plan(MINE).terms

    def test_one_that_has_not_begun_is_judged_again(self, path: Path) -> None:
        open_ledger(path, [MINE])
        judged: list[bytes] = []
        ledger = Ledger(path, lambda earlier, new: judged.append(new.session))
        ledger.record_plan(terms(), images(1, 2, 3))
        ledger.reserve(MINE, 1, 4)
        assert judged == [MINE, MINE]
        ledger.record_plan(terms(), images(1, 2, 3))
        assert judged == [MINE, MINE], "it counts already, whatever the policy says now"

    @pytest.mark.parametrize("others", [(1, 2), (1, 2, 3, 4), (1, 2, 4)])
    def test_other_images_in_the_same_session_are_refused(self, path: Path, others: tuple[int, ...]) -> None:
        ledger = open_ledger(path, [MINE])
        with pytest.raises(InvalidInput, match="not those with which this session was accepted"):
            ledger.record_plan(terms(), images(*others))

    def test_no_image_and_no_plan(self, path: Path) -> None:
        ledger = open_ledger(path)
        with pytest.raises(InvalidInput, match="without training images"):
            ledger.record_plan(terms(), [])
        for action in (lambda: ledger.reserve(MINE, 1, 4), lambda: ledger.plan(MINE)):
            with pytest.raises(InvalidInput, match="no plan is on record"):
                action()


class Reference:
    """The slow truth: what a ledger in memory answers."""

    def __init__(self) -> None:
        self.newest: dict[bytes, tuple[int, int]] = {}
        self.reserved: dict[tuple[bytes, int], int] = {}
        self.released: set[tuple[bytes, int]] = set()

    def join(self, session: bytes, number: int, attempt: int) -> bool:
        newer = (number, attempt) > self.newest.get(session, (0, 0))
        if (session, number) in self.released:
            return False
        if newer:
            self.newest[session] = (number, attempt)
        return newer

    def reserve(self, session: bytes, number: int, steps: int) -> bool:
        self.reserved.setdefault((session, number), steps)
        return True

    def release(self, session: bytes, number: int, attempt: int) -> bool:
        new = (session, number) not in self.released
        self.released.add((session, number))
        return new

    def spent(self, session: bytes) -> int:
        return sum(steps for (owner, _), steps in self.reserved.items() if owner == session)


def accepts(action: Callable[[RoundContext], None], one: RoundContext) -> bool:
    try:
        action(one)
    except ReplayedExecution:
        return False
    return True


OPERATIONS = st.tuples(
    st.sampled_from(["join", "reserve", "release", "reopen"]),
    st.sampled_from([MINE, OTHER]),
    st.integers(1, 4),
    st.integers(1, 3),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(OPERATIONS, max_size=20))
def test_any_history_with_reopening_agrees_with_the_reference(
    operations: list[tuple[str, bytes, int, int]],
) -> None:
    reference = Reference()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        ledger = open_ledger(path, BOTH)
        for kind, session, number, other in operations:
            match kind:
                case "join":
                    happened = accepts(ledger.join, context(number, other, session))
                    assert happened == reference.join(session, number, other)
                case "reserve":
                    ledger.reserve(session, number, other)
                    reference.reserve(session, number, other)
                case "release":
                    happened = accepts(ledger.release, context(number, other, session))
                    assert happened == reference.release(session, number, other)
                case "reopen":
                    ledger = open_ledger(path, BOTH)
            for one in (MINE, OTHER):
                assert ledger.steps_spent(one) == reference.spent(one)
                assert ledger.is_reserved(one, number) == ((one, number) in reference.reserved)


class TestSharedFile:
    def test_two_ledgers_on_one_file_see_each_other(self, path: Path) -> None:
        first, second = open_ledger(path, BOTH), open_ledger(path, BOTH)
        first.join(context(2))
        with pytest.raises(ReplayedExecution):
            second.join(context(2))
        second.reserve(MINE, 2, 4)
        assert first.steps_spent(MINE) == 4
        second.release(context(2))
        with pytest.raises(ReplayedExecution):
            first.release(context(2))
        with pytest.raises(InvalidInput, match="another privacy plan"):
            second.record_plan(terms(max_steps=1), images(1, 2, 3))

    def test_of_many_threads_one_wins_each_round(self, path: Path) -> None:
        ledger = open_ledger(path, BOTH)
        start = threading.Barrier(6)
        won: Counter[tuple[str, int]] = Counter()
        lock = threading.Lock()

        def work() -> None:
            start.wait()
            for number in range(1, 6):
                for name, action in (("join", ledger.join), ("release", ledger.release)):
                    if accepts(action, context(number)):
                        with lock:
                            won[name, number] += 1
                ledger.reserve(MINE, number, 4)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {won["release", number] for number in range(1, 6)} == {1}
        assert max(won.values()) == 1, "no round was joined twice"
        assert won["join", 5] == 1
        assert ledger.steps_spent(MINE) == 20

    def test_many_processes_may_open_a_new_file_at_once_and_one_wins_each_round(self, path: Path) -> None:
        contexts = [context(number) for number in range(1, 6)]
        code = """
        def won(action, one):
            try:
                action(one)
            except ReplayedExecution:
                return False
            return True

        ready()
        ledger = open_ledger(path, BOTH)
        joined = [one.round for one in contexts if won(ledger.join, one)]
        released = [one.round for one in contexts if won(ledger.release, one)]
        for one in contexts:
            ledger.reserve(one.session, one.round, 4)
        print(*joined, "|", *released, flush=True)
        """
        children = [start_child(code, path, contexts) for _ in range(3)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        outputs = [child.communicate(timeout=60) for child in children]
        assert [(child.returncode, errors) for child, (_, errors) in zip(children, outputs, strict=True)] == [
            (0, "")
        ] * 3
        joined = [number for out, _ in outputs for number in out.split("|")[0].split()]
        released = [number for out, _ in outputs for number in out.split("|")[1].split()]
        assert len(set(joined)) == len(joined)
        assert "5" in joined
        assert sorted(released) == ["1", "2", "3", "4", "5"]
        assert open_ledger(path, BOTH).steps_spent(MINE) == 20


CHILD = """
import sys, textwrap
from pathlib import Path
from fedapt_crypto.errors import ReplayedExecution
from fedapt_crypto.secagg.scheme import RoundContext
from tests.client.books.ledgers import MINE, OTHER, open_ledger

def ready():
    print("ready", flush=True)
    assert sys.stdin.readline() == "go\\n"

BOTH = (MINE, OTHER)
path = Path(sys.argv[2])
contexts = [RoundContext.from_bytes(bytes.fromhex(text)) for text in sys.argv[3:]]
exec(compile(textwrap.dedent(sys.argv[1]), "child", "exec"))
"""


def start_child(code: str, path: Path, contexts: list[RoundContext]) -> subprocess.Popen[str]:
    arguments = [code, str(path), *(one.to_bytes().hex() for one in contexts)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_after(code: str, path: Path) -> None:
    """Run ``code`` in a process and kill it without warning once it says that it is ready."""
    with start_child(code + "\n        ready()", path, [context(3)]) as child:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(timeout=60) == -signal.SIGKILL


class TestSuddenDeath:
    def test_after_reserve(self, path: Path) -> None:
        kill_after(
            """
        open_ledger(path, BOTH).reserve(contexts[0].session, 3, 4)""",
            path,
        )
        assert open_ledger(path, BOTH).is_reserved(MINE, 3)
        assert open_ledger(path, BOTH).steps_spent(MINE) == 4

    def test_after_release(self, path: Path) -> None:
        kill_after(
            """
        open_ledger(path, BOTH).release(contexts[0])""",
            path,
        )
        with pytest.raises(ReplayedExecution):
            open_ledger(path, BOTH).release(context(3))
        open_ledger(path, BOTH).release(context(4))

    def test_after_join(self, path: Path) -> None:
        kill_after(
            """
        open_ledger(path, BOTH).join(contexts[0])""",
            path,
        )
        with pytest.raises(ReplayedExecution):
            open_ledger(path, BOTH).join(context(3))
        open_ledger(path, BOTH).join(context(3, attempt=2))

    def test_before_the_commit_nothing_has_happened_and_nothing_stays_locked(self, path: Path) -> None:
        kill_after(
            """
        file = open_ledger(path, BOTH)._file
        open_transaction = file.transaction()
        file.insert(open_transaction.__enter__(), "reservations", contexts[0].session, 3, 4, "now")""",
            path,
        )
        ledger = open_ledger(path, BOTH)
        assert ledger.steps_spent(MINE) == 0
        ledger.reserve(MINE, 3, 5)
        assert ledger.steps_spent(MINE) == 5


def test_what_fails_half_way_is_taken_back_and_unlocked(path: Path) -> None:
    ledger = open_ledger(path, BOTH)

    def interrupted() -> None:
        with ledger._file.transaction() as database:
            ledger._file.insert(database, "reservations", MINE, 3, 4, "now")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ledger.steps_spent(MINE) == 0
    ledger.reserve(MINE, 3, 5)
    assert ledger.steps_spent(MINE) == 5


class TestBadFiles:
    @pytest.mark.parametrize("content", [b"not a database" * 400, b"SQLite format 3\x00" + b"\xff" * 5000])
    def test_what_is_no_database_is_named(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=f"the ledger {path} cannot be used: .+"):
            open_ledger(path, BOTH)
        assert path.read_bytes() == content, "evidence is not overwritten"

    @pytest.mark.parametrize("damage", ["rubbish", "cut"])
    def test_a_ledger_damaged_later_is_named(self, path: Path, damage: str) -> None:
        ledger = open_ledger(path, BOTH)
        ledger.reserve(MINE, 1, 4)
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole = path.read_bytes()
        path.write_bytes(
            whole[:4096] + b"\xaa" * (len(whole) - 4096) if damage == "rubbish" else whole[:4096]
        )
        with pytest.raises(InvalidInput, match=f"the ledger {path} cannot be used: .+"):
            ledger.steps_spent(MINE)
        with pytest.raises(InvalidInput, match=f"the ledger {path} cannot be used: .+"):
            ledger.reserve(MINE, 2, 4)

    @pytest.mark.parametrize("size", [100, 512, 4096, 8192])
    def test_a_ledger_that_was_cut_short_does_not_start_anew(self, path: Path, size: int) -> None:
        open_ledger(path, BOTH).reserve(MINE, 1, 4)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(InvalidInput, match=f"the ledger {path} cannot be used: .+"):
            open_ledger(path, BOTH)

    def test_a_folder_in_its_place(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(InvalidInput, match=f"the ledger {path} cannot be used: "):
            open_ledger(path, BOTH)

    def test_a_read_only_folder(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "ledger.sqlite"
            open_ledger(path, BOTH).reserve(MINE, 1, 4)
            with (
                read_only(path.parent),
                pytest.raises(InvalidInput, match=f"the ledger {path} cannot be used: .+"),
            ):
                open_ledger(path, BOTH)
            assert open_ledger(path, BOTH).steps_spent(MINE) == 4

    def test_a_new_one_where_none_can_be_made(self, tmp_path: Path) -> None:
        missing = tmp_path / "none" / "ledger.sqlite"
        with pytest.raises(InvalidInput, match=f"the ledger {missing} cannot be made: No such file"):
            open_ledger(missing)
        with tempfile.TemporaryDirectory() as name, read_only(Path(name)):
            path = Path(name) / "ledger.sqlite"
            with pytest.raises(InvalidInput, match=f"the ledger {path} cannot be made: Permission denied"):
                open_ledger(path, BOTH)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder one that we may read and not write; as root, that takes being someone else."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:  # who may do everything; so the folder goes to somebody who may not, and we become that
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)
        for path in folder.iterdir():
            path.chmod(0o600)


def test_only_the_owner_may_read_it_and_what_sqlite_puts_beside_it(path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = open_ledger(path, BOTH)
        with closing(sqlite3.connect(path)) as reader:  # while one is open, the -wal file stays
            reader.execute("SELECT count(*) FROM plans").fetchone()
            ledger.reserve(MINE, 1, 4)
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(
        ["fingerprint.key", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"], 0o600
    )


def test_a_round_whose_update_was_released_is_not_joined_in_a_later_attempt(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", BOTH)
    assert not ledger.has_joined(MINE)
    ledger.join(context(1, 1, MINE))
    ledger.join(context(1, 2, MINE))  # the first ended before anything was released
    ledger.release(context(1, 2, MINE))
    with pytest.raises(ReplayedExecution, match="released in an earlier attempt"):
        ledger.join(context(1, 3, MINE))
    ledger.join(context(2, 1, MINE))
    assert ledger.has_joined(MINE)
    assert not ledger.has_joined(OTHER)
