"""Connections whose TLS handshake is not done, counted: without I/O, the caller says what time it is.

Each passes two rooms. It *waits* until its whole ClientHello is there, which costs a file handle and no
more; then it *shakes hands*, which costs the 256 KiB that asyncio's TLS takes for a connection. Both rooms
are small, for all and for one address. Who waits longest makes room for who comes new: nobody can take the
waiting room by sitting in it. Who shakes hands keeps its place until it is done or its time is over.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Generic, TypeVar

HELLO_TYPE: Final = 0x16
MAX_HELLO_BYTES: Final = 1 << 14
"""A TLS record holds no more."""
HEADER_BYTES: Final = 5

Guest = TypeVar("Guest")


class Hello(Enum):
    """What the first bytes of a connection are."""

    PARTIAL = auto()
    COMPLETE = auto()
    NOT_TLS = auto()


def first_record(data: bytes) -> Hello:
    """Return whether a connection's first bytes are a whole TLS record of the handshake."""
    if data and data[0] != HELLO_TYPE:
        return Hello.NOT_TLS
    if len(data) < HEADER_BYTES:
        return Hello.PARTIAL
    length = int.from_bytes(data[3:HEADER_BYTES], "big")
    if data[1] != 3 or not 1 <= length <= MAX_HELLO_BYTES:
        return Hello.NOT_TLS
    return Hello.COMPLETE if len(data) >= HEADER_BYTES + length else Hello.PARTIAL


@dataclass
class _Room(Generic[Guest]):
    """Guests in order of arrival, in all and by address."""

    guests: OrderedDict[Guest, tuple[str, float]] = field(default_factory=OrderedDict)
    by_address: dict[str, OrderedDict[Guest, None]] = field(default_factory=dict)

    def add(self, guest: Guest, address: str, now: float) -> None:
        self.guests[guest] = address, now
        self.by_address.setdefault(address, OrderedDict())[guest] = None

    def remove(self, guest: Guest) -> str | None:
        found = self.guests.pop(guest, None)
        if found is None:
            return None
        address, _ = found
        here = self.by_address[address]
        del here[guest]
        if not here:
            del self.by_address[address]
        return address

    def here(self, address: str) -> int:
        return len(self.by_address.get(address, ()))

    def oldest(self, address: str) -> Guest:
        return next(iter(self.by_address[address]))

    def since(self, moment: float) -> list[Guest]:
        """Return who came before a moment."""
        found = []
        for guest, (_, came) in self.guests.items():
            if came > moment:
                break
            found.append(guest)
        return found


@dataclass
class Lobby(Generic[Guest]):
    """The two rooms.

    Attributes:
        waiting, waiting_per_address: Places for those whose ClientHello is not complete.
        shaking, shaking_per_address: Places for those in the handshake.
        timeout_s: How long a guest may stay in the first room.
        hurry_s: How long one may shake hands while others wait for its place.
    """

    waiting: int = 1024
    waiting_per_address: int = 256
    shaking: int = 64
    shaking_per_address: int = 32
    timeout_s: float = 10.0
    hurry_s: float = 2.0
    _waiting: _Room[Guest] = field(default_factory=_Room)
    _shaking: _Room[Guest] = field(default_factory=_Room)
    _ready: OrderedDict[Guest, None] = field(default_factory=OrderedDict)

    def enter(self, guest: Guest, address: str, now: float) -> list[Guest]:
        """Let a new connection wait; return those that made room for it, which are to be closed.

        Args:
            guest: The connection.
            address: Where it comes from.
            now: Monotonic time in seconds.
        """
        gone = []
        if self._waiting.here(address) >= self.waiting_per_address:
            gone.append(self._waiting.oldest(address))
        elif len(self._waiting.guests) >= self.waiting:
            # From whom there are most: a flood from few addresses pushes out its own.
            crowd = max(self._waiting.by_address, key=self._waiting.here)
            gone.append(self._waiting.oldest(crowd))
        for each in gone:
            self.leave(each)
        self._waiting.add(guest, address, now)
        return gone

    def hello(self, guest: Guest) -> None:
        """A guest's ClientHello is complete: it is ready for the handshake."""
        if guest in self._waiting.guests:
            self._ready[guest] = None

    def next(self, now: float) -> Guest | None:
        """Return who may begin the handshake now, if anybody, in order of readiness."""
        if len(self._shaking.guests) >= self.shaking:
            return None
        for guest in self._ready:
            address, _ = self._waiting.guests[guest]
            if self._shaking.here(address) < self.shaking_per_address:
                self.leave(guest)
                self._shaking.add(guest, address, now)
                return guest
        return None

    def leave(self, guest: Guest) -> None:
        """A guest is through, or gone."""
        self._ready.pop(guest, None)
        self._waiting.remove(guest)
        self._shaking.remove(guest)

    def overdue(self, now: float) -> list[Guest]:
        """Return whose time is over; they are to be closed."""
        late = self._waiting.since(now - self.timeout_s)
        if self._ready:
            late += self._shaking.since(now - self.hurry_s)
        return late

    def __len__(self) -> int:
        return len(self._waiting.guests) + len(self._shaking.guests)
