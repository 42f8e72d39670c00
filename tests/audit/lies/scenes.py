"""Plays a federation in which one party writes something else into its log than it should."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from unittest import mock

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.log.line import parse_line
from fedapt_secure.log.reader import segments
from fedapt_secure.log.writer import LogWriter
from tests.world.campaign import Setting
from tests.world.invariants import Violation
from tests.world.operations import draw_schedule

INSTITUTION: Final = "clinic-2"
Body = dict[str, Any]
Line = tuple[str, Body]
Falsify = Callable[[str, Body], list[Line]]
"""What a liar writes in place of a line: any number of lines."""


@dataclass(frozen=True)
class Scene:
    """One course of events.

    Attributes:
        seed: Of the world. faults: Whether its schedule of faults is played.
        segment_bytes: After how many bytes logs are rotated; ``None`` for never.
        setting: What is played.
    """

    seed: int = 0
    faults: bool = True
    segment_bytes: int | None = None
    setting: Setting = field(default_factory=Setting)


@dataclass(frozen=True)
class Told:
    """What came of a scene: the audit's answer, every line of the liar's log, and whether it lied."""

    judgement: Judgement
    lines: list[Line]


PLAIN: Final = Scene(faults=False)
SCENES: Final = {
    COORDINATOR: (PLAIN, Scene(faults=False, segment_bytes=4000), Scene(129), Scene(150), Scene(100)),
    INSTITUTION: (
        PLAIN,
        Scene(faults=False, segment_bytes=4000),
        Scene(160),
        Scene(185),
        Scene(218),
        Scene(103),
    ),
}
"""All types of lines that a world has, and of the others `BESIDES`; a type is tried in the first with it."""
REHEARSED: Final = "5e" * 32
BESIDES: Final[dict[str, dict[str, list[Line]]]] = {
    COORDINATOR: {
        "log_opened": [
            (
                "certificate",
                {
                    "name": COORDINATOR,
                    "fingerprint": "0011 2233 4455 6677 8899 aabb ccdd eeff 0011 2233",
                    "not_before": "2025-12-01T00:00:00+00:00",
                    "not_after": "2026-12-01T00:00:00+00:00",
                },
            ),
            ("torn_tail", {"bytes": 7, "file": "log.jsonl.torn-1", "sha256": "70" * 32}),
            ("listening", {"host": "0.0.0.0", "port": 8443}),
            ("turned_away", {"detail": "no certificate"}),
            (
                "rehearsal",
                {"configuration": REHEARSED, "answers": {INSTITUTION: "ready", "clinic-3": "no_space"}},
            ),
        ],
        "session_started": [
            ("waiting_for_return", {"names": ["clinic-3"]}),
            ("left", {"name": "clinic-3", "reason": "no_space"}),
        ],
    },
    INSTITUTION: {
        "log_opened": [
            (
                "certificate",
                {
                    "name": INSTITUTION,
                    "fingerprint": "ffee ddcc bbaa 9988 7766 5544 3322 1100 ffee ddcc",
                    "not_before": "2025-12-01T00:00:00+00:00",
                    "not_after": "2026-12-01T00:00:00+00:00",
                },
            ),
            ("torn_tail", {"bytes": 7, "file": "log.jsonl.torn-1", "sha256": "70" * 32}),
            ("vanished", {}),
            ("rehearsed", {"configuration": REHEARSED, "reason": None}),
        ],
        "group": [("answer_time", {"round": 0, "seconds": 2.5}), ("not_closed", {})],
    },
    "clinic-3": {"log_opened": [("rehearsed", {"configuration": REHEARSED, "reason": "no_space"})]},
}
"""Lines that a world does not have, and after the first line of which type a party writes them besides."""


def play(base: Path, scene: Scene, liar: str = COORDINATOR, falsify: Falsify | None = None) -> Told:
    """Play a scene and have it audited."""
    with _writing(liar, falsify, scene.segment_bytes), scene.setting.world(base, scene.seed) as world:
        if scene.faults:
            world.play(draw_schedule(scene.seed))
        with suppress(Violation):  # a party whose own log holds something else may not start again
            world.settle()
        world._switch_off()
        parties = (COORDINATOR, *world.institutions)
        judgement = audit([world.folder / name for name in parties])
        return Told(judgement, list(_lines(world.folder / liar / "log.jsonl")))


def _lines(path: Path) -> Iterator[Line]:
    for part in segments(path):
        for raw in part.read_bytes().splitlines():
            entry = parse_line(raw, str(part))
            yield entry.type, dict(entry.body)


@contextmanager
def _writing(liar: str, falsify: Falsify | None, segment_bytes: int | None) -> Iterator[None]:
    write, pending = LogWriter._write_line, {party: dict(more) for party, more in BESIDES.items()}

    def lying(self: LogWriter, time: datetime, type: str, body: Body) -> None:
        if segment_bytes is not None:
            self._segment_bytes = segment_bytes
        more = pending.get(self.party, {}).pop(type, [])
        named = {"session": body["session"]} if "session" in body else {}
        lines = [(type, body)]
        lines += [
            (one, {**named, **inner} if one in ("answer_time", "not_closed") else inner)
            for one, inner in more
        ]
        for line in lines:
            for written in [line] if falsify is None or self.party != liar else falsify(*line):
                write(self, time, *written)

    with mock.patch.object(LogWriter, "_write_line", lying):
        yield
