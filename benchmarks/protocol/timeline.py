"""Where the time of a process with many threads goes: categories entered and left at boundaries.

Functions are wrapped from outside; the product knows nothing of it. Each thread has a stack of categories and
is in the innermost. At any instant the threads that do something share the time equally; threads that wait
(for a queue, a socket, a timer) do not count. So the parts add up to the wall clock.
"""

import functools
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

IDLE = "idle"
WAITING = "waiting"
"""Nobody does anything: timers, and what the operating system does."""


@dataclass
class _Thread:
    """What one thread is in, outermost first."""

    number: int
    stack: list[str] = field(default_factory=list)
    cpu: float = 0.0


class Timeline:
    """Records when each thread enters and leaves what."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._threads = 0
        self._wrapped: list[tuple[Any, str, Any]] = []
        self._changes: list[tuple[float, int, str | None]] = []
        self._cpu: list[tuple[float, str, float]] = []

    def wrap(self, owner: Any, name: str, category: str) -> None:
        """Replace a function, or a method, by one that notes its time.

        Raises:
            AttributeError: If there is no such function any more: then the benchmark must be adapted.
        """
        plain = inspect.getattr_static(owner, name)
        if isinstance(plain, (staticmethod, classmethod, property)) or inspect.iscoroutinefunction(plain):
            raise TypeError(f"{name} is no plain function")
        self._wrapped.append((owner, name, plain))
        setattr(owner, name, self._noting(plain, category))

    def restore(self) -> None:
        """Put everything back that was wrapped."""
        while self._wrapped:
            setattr(*self._wrapped.pop())

    def _noting(self, work: Callable[..., Any], category: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def noted(*arguments: Any, **named: Any) -> Any:
            self.enter(category)
            try:
                return work(*arguments, **named)
            finally:
                self.leave()

        return noted

    def enter(self, category: str) -> None:
        """Be in ``category`` from now on, in this thread."""
        thread = self._thread()
        self._account(thread)
        thread.stack.append(category)
        self._changes.append((time.time(), thread.number, category))

    def leave(self) -> None:
        """Be in what came before again."""
        thread = self._thread()
        self._account(thread)
        thread.stack.pop()
        self._changes.append((time.time(), thread.number, thread.stack[-1] if thread.stack else None))

    def _thread(self) -> _Thread:
        found = getattr(self._local, "thread", None)
        if found is None:
            self._threads += 1
            found = self._local.thread = _Thread(self._threads)
        return found

    def _account(self, thread: _Thread) -> None:
        now = time.thread_time()
        if thread.stack:
            self._cpu.append((time.time(), thread.stack[-1], now - thread.cpu))
        thread.cpu = now

    def shares(self, windows: Iterable[tuple[float, float]]) -> dict[str, float]:
        """Return the seconds of each category within some windows of time; together they are the windows."""
        edges = sorted(windows)
        total: dict[str, float] = defaultdict(float)
        states: dict[int, str] = {}
        changes = sorted(self._changes, key=lambda change: change[0])
        position = 0
        for start, end in edges:
            while position < len(changes) and changes[position][0] <= start:
                self._apply(states, changes[position])
                position += 1
            at = start
            while position < len(changes) and changes[position][0] < end:
                self._share(total, states, changes[position][0] - at)
                at = changes[position][0]
                self._apply(states, changes[position])
                position += 1
            self._share(total, states, end - at)
        return dict(total)

    def processor_seconds(self, windows: Iterable[tuple[float, float]]) -> dict[str, float]:
        """Return the processor seconds of each category, counted where a thread leaves it."""
        edges, total = sorted(windows), defaultdict(float)
        for at, category, seconds in self._cpu:
            if any(start <= at < end for start, end in edges):
                total[category] += seconds
        return dict(total)

    @staticmethod
    def _apply(states: dict[int, str], change: tuple[float, int, str | None]) -> None:
        _, thread, category = change
        if category is None or category == IDLE:
            states.pop(thread, None)
        else:
            states[thread] = category

    @staticmethod
    def _share(total: dict[str, float], states: dict[int, str], seconds: float) -> None:
        if not states:
            total[WAITING] += seconds
        for category in states.values():
            total[category] += seconds / len(states)
