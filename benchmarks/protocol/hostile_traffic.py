"""Half-open handshakes against a real coordinator: time, memory, and whether an honest one still gets in.

python -m benchmarks.hostile_traffic --connections 10000
"""

import argparse
import asyncio
import contextlib
import resource
import tempfile
import threading
import time
from pathlib import Path

from fedapt_secure.protocol.transport import client_context
from tests.support.attacks import (
    CLIENT_HELLO_START,
    World,
    client_hello,
    flood_pings,
    half_open,
    is_cut,
    lets_in,
    stream_fragments,
    stream_frame,
)
from tests.support.offices import HOST

KINDS = {
    "nothing at all": (b"",),
    "half a ClientHello": (CLIENT_HELLO_START,),
    "a whole ClientHello": (client_hello(),),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    count = parser.parse_args().connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        world = World.make(Path(folder))
        with world.running():
            print(f"idle: {world.memory_mib('VmRSS'):.0f} MiB, {world.handles()} file handles")
            for source in (HOST, "127.0.0.2"):
                for name, kinds in KINDS.items():
                    flood(world, name, kinds, min(count, hard - 1000), source)
            asyncio.run(large(world))
            print(f"refused: {world.refused()}")
            assert world.health()["ok"]


def flood(world: World, name: str, kinds: tuple[bytes, ...], count: int, source: str) -> None:
    held: list = []
    began, took = time.monotonic(), 0.0

    def attack() -> None:
        nonlocal took
        held.extend(half_open(world.settings.port, count, kinds, source=source))
        took = time.monotonic() - began

    attacker = threading.Thread(target=attack)
    attacker.start()
    waits = []
    while attacker.is_alive() or len(waits) < 10:
        start = time.monotonic()
        let_in = asyncio.run(lets_in(world, client_context(world.party("clinic-1"))))
        waits.append((time.monotonic() - start) if let_in else float("inf"))
        time.sleep(1.1)  # by certificate, 60 arrivals a minute are let in
    attacker.join()
    where = "its own address" if source == HOST else "another address"
    milliseconds = sorted(wait * 1000 for wait in waits)
    print(
        f"{count} x {name}, from {where}: opened in {took:.1f} s; memory so far at most"
        f" {world.memory_mib():.0f} MiB, {world.handles()} file handles; an honest one got in"
        f" {sum(wait < 20 for wait in waits)} of {len(waits)} times, median"
        f" {milliseconds[len(waits) // 2]:.0f} ms, slowest {milliseconds[-1]:.0f} ms"
    )
    for connection in held:
        connection.close()
    time.sleep(1)


async def large(world: World) -> None:
    for name, attack in (
        ("a frame of 1 GiB, announced", lambda c: stream_frame(c, 1 << 30)),
        ("a message of 1 GiB, in fragments", lambda c: stream_fragments(c, 1 << 30)),
        ("pings without end", lambda c: flood_pings(c, 1 << 30)),
    ):
        began = time.monotonic()
        sent = 0
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(world.member("clinic-1"))
            sent = await attack(connection)
            cut = await is_cut(connection)
        print(
            f"{name}: cut {cut} after {sent / (1 << 20):.1f} MiB and {time.monotonic() - began:.1f} s;"
            f" memory at most {world.memory_mib():.0f} MiB"
        )


if __name__ == "__main__":
    main()
