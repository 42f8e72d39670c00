"""Share what pure functions return for the same bytes among many parties in one process: for simulations.

A real party never turns it on and works everything out itself. A simulation of a thousand institutions has
a thousand of them check the same thousand signatures, and parse the same message; here the first one does
it, and the others, who hold the very same bytes, take its result. That changes no result, because

* a result depends on the bytes alone: whether a signature is good under a key, what a message says;
* it is found only by all of those bytes: a key and a signature as they are, the rest by its SHA-256;
* only success is kept: what is refused is refused anew to everyone, with an error of its own;
* what is kept is public and immutable: no secret, no plaintext of a sealed message.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, TypeVar, cast

MAX_RESULTS: Final = 32
"""Those of the last few messages; each may take megabytes."""
MAX_SMALL: Final = 1 << 14
"""Something of every institution in a round; each takes kilobytes."""
MAX_SIGNATURES: Final = 1 << 17
"""Several rounds of thousands of institutions; each takes about 400 bytes."""

Result = TypeVar("Result")


@dataclass
class _Kept:
    """What came out last, by what went in."""

    most: int
    results: OrderedDict[Hashable, object] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)

    def of(self, key: Hashable, work: Callable[[], object]) -> object:
        with self.lock:
            if key in self.results:
                self.results.move_to_end(key)
                return self.results[key]
        result = work()  # outside the lock: two may do it at the same time, and take the same one then
        with self.lock:
            first = self.results.setdefault(key, result)
            while len(self.results) > self.most:
                self.results.popitem(last=False)
        return first


@dataclass
class _Shelf:
    results: _Kept = field(default_factory=lambda: _Kept(MAX_RESULTS))
    small: _Kept = field(default_factory=lambda: _Kept(MAX_SMALL))
    signatures: _Kept = field(default_factory=lambda: _Kept(MAX_SIGNATURES))


_shelf: _Shelf | None = None


@contextmanager
def sharing() -> Iterator[None]:
    """Share in this process until the block ends, then forget everything; blocks do not nest.

    Raises:
        RuntimeError: If it is on already.
    """
    global _shelf  # noqa: PLW0603 - one a process, as the docstring says
    if _shelf is not None:
        raise RuntimeError("results are being shared already")
    _shelf = _Shelf()
    try:
        yield
    finally:
        _shelf = None


def shared(kind: Hashable, data: bytes, work: Callable[[], Result], *, small: bool = False) -> Result:
    """Return what ``work`` returns, or what it returned to another party for the same bytes.

    Args:
        kind: Which function; must hold everything on which the result depends besides ``data``.
        data: Its input.
        work: Calls it. The result must be immutable and public; an error is passed on and not kept.
        small: Whether there are thousands of such results at a time, as small as one institution's keys.
    """
    if _shelf is None:
        return work()
    kept = _shelf.small if small else _shelf.results
    return cast("Result", kept.of((kind, hashlib.sha256(data).digest()), work))


def checked(public_key: bytes, signature: bytes, message: bytes, check: Callable[[], None]) -> None:
    """Call ``check``, unless it succeeded before for exactly this key, signature and message.

    Raises:
        Exception: What ``check`` raises.
    """
    if _shelf is None:
        check()
        return
    key = (bytes(public_key), bytes(signature), hashlib.sha256(message).digest())
    _shelf.signatures.of(key, check)
