"""Who may come in: one-time links, what a browser keeps of one, and two roles. Without I/O.

A link holds a secret of 256 bits that works once. A browser that follows it is given another one in a cookie.
Both are known here as hashes only, and nowhere else: a process that is started again knows nobody.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

LINK_S: Final = 15 * 60.0
"""How long a link waits for its one use."""
MAX_LINKS: Final = 16
MAX_VISITS: Final = 32
IDLE_S: Final = 12 * 3600.0
"""How long a browser may be away."""
WRONG_AT_ONCE: Final = 10
WRONG_PER_S: Final = 0.1
"""Links that are none, over all who try: nobody finds a secret of 256 bits so, nor keeps us busy."""


class Role(StrEnum):
    """What somebody may do."""

    DECIDES = "decides"
    READS = "reads"


class TooMany(Exception):
    """So many wrong links have been tried that none is looked at for now."""


@dataclass
class Visit:
    """A browser that is in.

    Attributes:
        role: What it may do.
        token: What every form of its pages carries, and no other page can know (against CSRF).
        seen: When it was here last, in seconds of the clock.
    """

    role: Role
    token: str = field(repr=False)
    seen: float


class Doors:
    """Links that were given out, and browsers that are in; bounded, so that no number of either costs more.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._links: dict[bytes, tuple[Role, float]] = {}
        self._visits: dict[bytes, Visit] = {}
        self._wrong, self._wrong_at = 0.0, clock()

    def expect(self, link: bytes, role: Role) -> None:
        """Let whoever brings this link in, once.

        Args:
            link: `hashed` of its secret.
            role: What they may do.
        """
        while len(self._links) >= MAX_LINKS:
            del self._links[next(iter(self._links))]
        self._links[link] = (role, self._clock() + LINK_S)

    def enter(self, secret: str) -> str | None:
        """Return what the browser is to keep, or ``None`` where the link is none, not any more, or too old.

        Raises:
            TooMany: If too many wrong ones were tried.
        """
        now = self._clock()
        self._wrong = max(0.0, self._wrong - (now - self._wrong_at) * WRONG_PER_S)
        self._wrong_at = now
        if self._wrong >= WRONG_AT_ONCE:
            raise TooMany
        # Found by its hash, whose bytes say nothing of the secret's: how long that takes tells nothing.
        role, until = self._links.pop(hashed(secret), (None, 0.0))
        if role is None or now > until:
            self._wrong += 1
            return None
        while len(self._visits) >= MAX_VISITS:
            del self._visits[min(self._visits, key=lambda one: self._visits[one].seen)]
        kept = secrets.token_urlsafe(32)
        self._visits[hashed(kept)] = Visit(role, secrets.token_urlsafe(32), now)
        return kept

    def visit(self, kept: str | None) -> Visit | None:
        """Return the visit of a browser by what it keeps; ``None`` for strangers and the long absent."""
        if kept is None:
            return None
        found, now = self._visits.get(hashed(kept)), self._clock()
        if found is None:
            return None
        if now - found.seen > IDLE_S:
            del self._visits[hashed(kept)]
            return None
        found.seen = now
        return found

    def leave(self, kept: str | None) -> None:
        """Know a browser no more."""
        self._visits.pop(hashed(kept or ""), None)


def new_secret() -> str:
    """Return a secret of 256 bits for a link."""
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> bytes:
    """Return what a secret is known by."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
