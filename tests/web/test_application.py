"""A page that is left open: what it costs, and that it does not grow."""

import asyncio
import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra 'page' is not installed")
from fedapt_secure.web import application as web
from fedapt_secure.web.access import Doors, Role, hashed, new_secret
from fedapt_secure.web.application import COOKIE, Application, Where
from tests.web.probe.site import SITE

DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Party:
    """The other process: something happens in the folder once an hour."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.asked = 0

    async def ask(self, what: str, **fields: Any) -> Mapping[str, Any]:
        assert what == "look"
        self.asked += 1
        version = str(int(self._clock() // 3600))
        if fields["known"] == version:
            return {"same": True}
        about = {"problem": None, "count": version, "files": [], "port": 1, "word": "x" * 10_000}
        return {"who": "clinic-1", "version": version, **about}


class Request:
    """Of a browser that stays for a day."""

    def __init__(self, kept: str, clock: Clock) -> None:
        self.cookies = {COOKIE: kept}
        self._clock = clock

    async def is_disconnected(self) -> bool:
        return self._clock() > DAY_S


def test_a_page_left_open_for_a_day_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    party, doors = Party(clock), Doors(clock)

    async def pass_by(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(web.asyncio, "sleep", pass_by)
    monkeypatch.setitem(SITE.functions, "attempts", lambda *_: {})
    found = Application(SITE, party, doors, Where(("x",)), clock)  # type: ignore[arg-type]
    secret = new_secret()
    doors.expect(hashed(secret), Role.READS)
    kept = doors.enter(secret)
    assert kept is not None
    blocks: list[int] = []
    resident: list[int] = []
    events = beats = 0

    async def day() -> None:
        nonlocal events, beats
        async for text in found._changes(Request(kept, clock), "/other"):  # type: ignore[arg-type]
            events += text.startswith("event: page")
            beats += text.startswith(": nothing new")
            if clock.now > 3600 * (len(blocks) + 2):
                gc.collect()
                blocks.append(sys.getallocatedblocks())
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]))

    asyncio.run(day())
    assert events == 25, "one at first, and one an hour"
    assert beats > DAY_S / 20
    assert party.asked > DAY_S / 2
    assert len(blocks) > 20
    assert max(blocks[2:]) - min(blocks[2:]) < 2_000, "small objects; one a look would be 86,400"
    assert max(resident[2:]) - min(resident[2:]) < 1_000, "pages; a state a look would be 200,000"
    assert found._live == 0
