"""One real institution on a stage with a coordinator's machine, and everything that passes between them.

The institution is the real one: shell, books, ledger, log, learner, the shipped CLIP and images on disk. So
is the coordinator's machine. Only the socket between them is a list. The other institutions, where a session
is played to its end, are machines in memory. Everything of the institution's own carries a marker.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError

from fedapt_client import conduct
from fedapt_client.books.approval import Approvals
from fedapt_client.books.ledger import Ledger
from fedapt_client.runner import InstitutionRunner
from fedapt_client.session.requirements import Requirements
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import RollbackDetected
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.digits.scans import CLASS_NAMES, write_digits
from fedapt_secure.protocol import messages as m
from fedapt_server.membership.templates import TINY_WEIGHTS
from tests.protocol.federation import Federation
from tests.world.stillness import Wire, _step, resume

NAME = "clinic-1"
MARKER = "DOE_JANE_1961"
FIGURE = 3.141592653
"""In the policy of `clinic-1` and nowhere else."""
MOST_TIMERS = 20
ENCODING = m.Activity(doing="encoding", percent=50).to_bytes()
POLICY = f"""\
max_epsilon: {FIGURE}
max_delta: 0.00314159
minimum_participants: 2
minimum_institutions_per_key: 1
minimum_records: 0
minimum_persons: 0
privacy_unit: any
unattended: true
"""


IMAGES = 90
"""On every stage; some of them are held out."""


def write_images(root: Path) -> None:
    """Write the images that every stage gets a copy of."""
    write_digits(root, "ink", range(0, 20 * IMAGES, 20), False, np.random.default_rng(0))


class Stage:
    """One institution and a coordinator.

    Attributes:
        folder: The institution's folder. data: Its images. settings: Its settings, which a test may change.
        plan: The session's plan, likewise.
        company: Whether the others are there too, so that rounds take place.
        of_the_others: What those insist on, where it is not what a federation of tests does.
        arriving: Told each frame before the institution gets it, with the federation.
        changed: Gives the frame that the institution gets in its place.
        stops_at: Whether SIGTERM comes in place of a frame.
        sent: Every frame that left it.
    """

    def __init__(self, path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.folder = path / MARKER / "party"
        self.folder.mkdir(parents=True, mode=0o700)
        self.data = path / MARKER / f"images-{MARKER}"
        shutil.copytree(digits, self.data)
        for image in sorted(self.data.glob("*/*.png")):
            image.rename(image.with_name(f"{MARKER}-{image.name}"))
        self.settings: dict[str, object] = {
            "name": NAME,
            "port": 1,
            "data": self.data,
            "device": "cpu",
            "fixed_answer_time": False,
        }
        self.plan: dict[str, object] = TINY_WEIGHTS | {
            "class_names": CLASS_NAMES,
            "context_tokens": 2,
            "rounds": 1,
            "zero_shot_template": "a photo of a {}",
        }
        self.approvals: Approvals | None = None
        self.company = False
        self.of_the_others: Requirements | None = None
        self.arriving: Callable[[bytes, Federation], None] = lambda data, federation: None
        self.changed: Callable[[bytes, Federation], bytes] = lambda data, federation: data
        self.before_play: list[Callable[[Federation], None]] = []
        self.stops_at: Callable[[bytes], bool] = lambda data: False
        self.sent: list[bytes] = []
        self.coordinator_gone = False
        self.federation: Federation | None = None
        self.write_policy(POLICY)
        monkeypatch.setenv("FEDAPT_WHATEVER", MARKER)

    def write_policy(self, text: str) -> None:
        (self.folder / "policy.yaml").write_text(text)

    def prepare(self) -> Federation:
        """Make the federation, once, so that the same parties meet again."""
        if self.federation is None:
            self.federation = Federation(3, requirements=self.of_the_others, **self.plan)
        federation, patch = self.federation, self.monkeypatch.setattr
        patch(PartyFolder, "identity", lambda folder: federation.identities[NAME])
        patch(PartyFolder, "sealing_key", lambda folder: federation.sealing[NAME])
        patch(PartyFolder, "roster", lambda folder: federation.roster)
        patch(conduct, "said_from_a_thread", lambda wire: lambda percent: wire._outlet(ENCODING))
        return federation

    def play(self) -> tuple[BaseException | None, Federation]:
        """Offer the session, and let the institution do what it does; return how that ended."""
        federation = self.prepare()
        for change in self.before_play:
            change(federation)
        runner = InstitutionRunner(self.folder, ClientSettings(**self.settings), approvals=self.approvals)
        error: BaseException | None = None
        shell = runner._talk(Wire(self._leave))
        self._arrived: list[bytes] = []
        federation._server(federation.coordinator.start())
        try:
            resume(shell, None)
            self._arrived.clear()
            federation._server(federation.coordinator.connected(NAME))
            for name in federation.identities if self.company else ():
                if name != NAME:
                    federation.connect(name)
            self._until_rest(federation, shell)
        except ConnectionClosedError:
            pass
        except BaseException as failed:  # also what is a mistake of ours: nothing of its text may leave
            error = failed
        finally:
            self._hand_over(federation)
            shell.close()
            runner._log.close()
        if self.company and not self.coordinator_gone:
            federation._server(federation.coordinator.disconnected(NAME))
            self._until_rest(federation, None)
        return error, federation

    def _leave(self, data: bytes) -> None:
        self.sent.append(data)
        self._arrived.append(data)

    def _hand_over(self, federation: Federation) -> None:
        while self._arrived:
            try:
                federation._server(federation.coordinator.receive(NAME, self._arrived.pop(0)))
            except RollbackDetected:  # it ends, as it has to
                self.coordinator_gone = True

    def _until_rest(self, federation: Federation, shell: Any) -> None:
        timers = 0
        for _ in range(10_000):
            self._hand_over(federation)
            if self.coordinator_gone:
                return
            if federation._to_institutions:
                name, data = federation._to_institutions.popleft()
                if name != NAME:
                    federation._deliver(name, data)
                elif shell is not None and self.stops_at(data):
                    _step(shell.throw, asyncio.CancelledError())  # what the handler of signals does
                elif shell is not None:
                    self.arriving(data, federation)
                    if not resume(shell, self.changed(data, federation)):
                        shell = None
            elif self.company and federation.timer is not None and not federation.ended:
                timers += 1
                if timers > MOST_TIMERS:
                    return  # all that is left is waiting
                federation.timer = None
                federation._server(federation.coordinator.timeout())
            else:
                return
        raise AssertionError("the session does not come to rest")

    def assert_nothing_left(self, federation: Federation, error: BaseException | None = None) -> None:
        """Search all that was sent and all that others have written for anything of the institution's own."""
        own = [MARKER, str(FIGURE)[:6], "3.14159", str(self.folder), str(self.data)]
        own += [] if error is None else [str(error)[:40] or MARKER]
        logs = [log for name, log in federation.logs.items() if name != NAME]
        others = b"\n".join(line for log in logs for line in log.lines)
        assert others
        for searched in (b"\n".join(self.sent), others):
            for mark in own:
                assert mark.encode() not in searched, mark
                assert os.fsencode(mark) not in searched

    def told(self) -> list[str]:
        """Return the codes that the institution has sent."""
        found = []
        for data in self.sent:
            if b"session refuse" in data:
                found.append(m.SessionRefuse.from_bytes(data).reason)
            if b"round decline" in data:
                found.append(m.RoundDecline.from_bytes(data).reason)
        return found

    def ledger(self) -> Ledger | None:
        """Return its ledger as it stands on disk."""
        path = self.folder / "ledger.sqlite"
        return Ledger(path, lambda *_: None) if path.exists() else None

    def spent(self) -> list[tuple[bytes, int]]:
        """Return each session that counts, with its steps."""
        ledger = self.ledger()
        sessions = [] if ledger is None else ledger.sessions
        return [(one.terms.session, one.steps_taken) for one in sessions if one.steps_taken]


def coordinator_lines(federation: Federation) -> bytes:
    """Return the coordinator's log."""
    return b"\n".join(federation.logs[COORDINATOR].lines)


def stranger() -> Identity:
    """Return an identity that nobody knows."""
    return Identity.generate()
