"""Work on the ranges of a long vector in several threads: hashes, ciphers and numpy let go of the lock.

A call may write to nothing but its own range, so what comes out does not depend on how many threads
there are, nor on which of them does what. The calling thread takes part: with one processor, or with one
call, nothing else happens. There is one pool a process, made when it is first needed; a forked child,
which inherits no threads, makes its own.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Final, TypeVar

MAX_THREADS: Final = 4
"""More would wait for memory, not compute."""

Result = TypeVar("Result")


def threads() -> int:
    """Return how many threads this process uses, the calling one among them."""
    if hasattr(os, "sched_getaffinity"):
        return min(MAX_THREADS, len(os.sched_getaffinity(0)))
    return min(MAX_THREADS, os.cpu_count() or 1)


def run_all(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make all calls and return their results in the order of ``calls``.

    Raises:
        Exception: The first, in that order, that a call raised; all have ended by then.
    """
    helpers = min(threads(), len(calls)) - 1
    if helpers < 1:
        return [call() for call in calls]
    waiting = deque(enumerate(calls))  # its popleft is safe among threads
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}

    def work() -> None:
        while True:
            try:
                position, call = waiting.popleft()
            except IndexError:
                return
            try:
                results[position] = call()
            except BaseException as failure:  # noqa: BLE001 - raised again by the calling thread
                failures[position] = failure

    futures = [_pool(os.getpid()).submit(work) for _ in range(helpers)]
    work()
    for future in futures:
        if not future.cancel():  # one that has not begun has nothing left to do
            future.result()
    if failures:
        raise failures[min(failures)]
    return [results[position] for position in range(len(calls))]


def ranges(length: int, step: int) -> list[tuple[int, int]]:
    """Return start and stop of the ranges of ``step`` that make up ``length``; the last may be shorter."""
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def over_ranges(length: int, step: int, work: Callable[[int, int], Result]) -> list[Result]:
    """Call ``work(start, stop)`` for each of the `ranges`, as `run_all` does."""
    return run_all([partial(work, *each) for each in ranges(length, step)])


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the pool of the process with this number; asked by another, a forked child, a new one."""
    return ThreadPoolExecutor(MAX_THREADS - 1, thread_name_prefix=f"fedapt-{process}")
