"""An institution behind an outbound proxy takes part in a session: real TLS, through a real proxy."""

import asyncio
from pathlib import Path

import pytest

from fedapt_client.settings import SETTINGS_FILE
from tests.client.test_doctor import proxy
from tests.support.attacks import World
from tests.support.offices import HOST, free_port

pytestmark = pytest.mark.integration


def test_a_session_through_a_proxy(tmp_path: Path) -> None:
    world = World.make(tmp_path, rounds=1)
    port, seen = free_port(), list[str]()
    path = world.party("clinic-2").path / SETTINGS_FILE
    settings = path.read_text()
    assert "proxy: null" in settings
    path.write_text(settings.replace("proxy: null", f'proxy: "http://clinic:secret@{HOST}:{port}"'))

    async def take_part() -> None:
        async with proxy(port, seen):
            await asyncio.gather(*(world.institution(f"clinic-{number}") for number in (1, 2, 3)))

    with world.running("--once"):
        asyncio.run(take_part())
        assert world.process is not None
        assert world.process.wait(30) == 0
    assert any(line.startswith(f"CONNECT {HOST}:{world.settings.port}") for line in seen)
    assert (world.party("clinic-2").path / "model.safetensors").exists()
    log = world.federation.folder.log("clinic-2").read_text()
    assert "session_closed" in log
    assert "secret" not in log
