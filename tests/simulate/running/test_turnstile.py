"""A few institutions start at a time."""

import asyncio

from fedapt_secure.simulate.running.turnstile import Turnstile


def test_whoever_arrives_makes_room_for_the_next() -> None:
    async def scene() -> None:
        turnstile, begun = Turnstile(at_once=2), []
        over = asyncio.Event()

        async def institution(name: str) -> None:
            async with turnstile.starting(name):
                begun.append(name)
                await over.wait()

        tasks = [asyncio.create_task(institution(name)) for name in "abcd"]
        await _settle()
        assert begun == ["a", "b"]
        turnstile.arrived("x")
        turnstile.arrived("a")
        turnstile.arrived("a")
        await _settle()
        assert begun == ["a", "b", "c"], "said twice, or of nobody, it frees nothing"
        turnstile.arrived("c")
        await _settle()
        assert begun == ["a", "b", "c", "d"]
        over.set()
        await asyncio.gather(*tasks)

    asyncio.run(scene())


def test_one_that_fails_or_is_stopped_before_it_arrives_keeps_no_place() -> None:
    async def scene() -> None:
        turnstile = Turnstile(at_once=1)

        async def institution(name: str, error: Exception | None = None) -> str:
            async with turnstile.starting(name):
                if error is not None:
                    raise error
                if name == "stopped":
                    await asyncio.sleep(3600)
                return name

        failed = asyncio.create_task(institution("failed", ValueError()))
        stopped = asyncio.create_task(institution("stopped"))
        waiting = asyncio.create_task(institution("stopped while waiting"))
        last = asyncio.create_task(institution("last"))
        await _settle()
        waiting.cancel()
        stopped.cancel()
        results = await asyncio.gather(failed, stopped, waiting, last, return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert isinstance(results[1], asyncio.CancelledError)
        assert isinstance(results[2], asyncio.CancelledError)
        assert results[3] == "last"

    asyncio.run(scene())


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
