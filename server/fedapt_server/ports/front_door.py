"""Listens on the rounds port: who waits for a TLS handshake costs next to nothing, see `lobby`.

A connection is handed on to asyncio's TLS and websockets only when its ClientHello lies complete in the
kernel's buffer, where it is looked at and not taken.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_server.ports.lobby import HEADER_BYTES, MAX_HELLO_BYTES, Hello, Lobby, first_record
from fedapt_server.refusal import Refusal

BACKLOG: Final = 1024
ACCEPTS_AT_ONCE: Final = 64
"""Then whoever is connected has its turn."""
SWEEP_S: Final = 0.5
FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 1.0


class Guest(socket.socket):
    """An accepted connection that says when it is closed, whoever closes it."""

    address: str
    when_closed: Callable[["Guest"], None] | None = None
    pause_s: float = FIRST_LOOK_S
    handed_on = False
    refused = False

    def close(self) -> None:
        """Close it, and say so once."""
        told, self.when_closed = self.when_closed, None
        if told is not None:
            told(self)
        super().close()


class Handover(socket.socket):
    """To asyncio it is a listening socket; what it accepts are guests who are ready for TLS."""

    def __init__(self) -> None:
        self._bell, ours = socket.socketpair()
        super().__init__(ours.family, ours.type, ours.proto, fileno=ours.detach())
        self.setblocking(False)
        self._bell.setblocking(False)
        self._guests: deque[Guest] = deque()

    def offer(self, guest: Guest) -> None:
        """Let asyncio accept a guest at its next turn."""
        if not self._guests:
            self._bell.send(b"!")
        self._guests.append(guest)

    def listen(self, backlog: int = 0) -> None:
        """Do nothing: the front door listens."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next guest and its address; raises `BlockingIOError` where there is none."""
        while self._guests:
            guest = self._guests.popleft()
            with suppress(OSError):  # gone in the meantime
                return guest, guest.getpeername()
            guest.close()
        self.recv(64)
        raise BlockingIOError

    def close(self) -> None:
        """Close it, and whom nobody has accepted."""
        for guest in self._guests:
            guest.close()
        self._guests.clear()
        self._bell.close()
        super().close()


class FrontDoor:
    """The port.

    Args:
        host, port: Where to listen; port 0 takes a free one.
        lobby: Counts.
        refused: Told about everyone who is not handed on, or does not get through TLS.
        setting: What names the port in ``server.yaml``.

    Raises:
        InvalidInput: If the port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        lobby: Lobby[Guest],
        refused: Callable[[Refusal], None],
        *,
        setting: str = "port",
    ) -> None:
        self._lobby = lobby
        self._refused = refused
        self._listening = _listen(host, port, setting)
        self.port: int = self._listening[0].getsockname()[1]
        self.handover = Handover()
        self._guests: dict[Any, Guest] = {}
        self._loop: asyncio.AbstractEventLoop
        self._sweeper: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to accept."""
        self._loop = asyncio.get_running_loop()
        for listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)
        self._sweep()

    def close(self) -> None:
        """Accept nobody any more, and close who is not through yet."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for listening in self._listening:
            self._loop.remove_reader(listening)
            listening.close()
        for guest in list(self._guests.values()):
            self._put_out(guest)

    def through(self, key: Any) -> None:
        """The handshake of whoever has this `guest_key` is done: it does not count here any more."""
        guest = self._guests.pop(key, None)
        if guest is not None:
            guest.when_closed = None
            self._lobby.leave(guest)
            self._hand_on()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no file handle left: who waits longest makes room
                self._make_room()
                return
            self._welcome(connection, str(peer[0]))

    def _make_room(self) -> None:
        for guest in list(self._guests.values())[:ACCEPTS_AT_ONCE]:
            self._refuse(guest, Refusal.CROWDED)

    def _welcome(self, connection: socket.socket, address: str) -> None:
        guest = Guest(connection.family, connection.type, connection.proto, fileno=connection.detach())
        guest.setblocking(False)
        guest.address = address
        try:
            key = guest_key(guest.getpeername(), guest.getsockname())
        except OSError:
            guest.close()
            return
        self._guests[key] = guest
        guest.when_closed = lambda guest: self._closed(key, guest)
        for late in self._lobby.enter(guest, address, self._loop.time()):
            self._refuse(late, Refusal.CROWDED)
        self._loop.add_reader(guest, self._look, guest)

    def _look(self, guest: Guest) -> None:
        """See how much of a ClientHello is there."""
        self._loop.remove_reader(guest)
        try:
            data = guest.recv(HEADER_BYTES + MAX_HELLO_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._loop.add_reader(guest, self._look, guest)
            return
        except OSError:
            data = b""
        if not data:
            self._refuse(guest, Refusal.NO_HELLO)
            return
        match first_record(data):
            case Hello.NOT_TLS:
                self._refuse(guest, Refusal.NOT_TLS)
            case Hello.COMPLETE:
                self._lobby.hello(guest)
                self._hand_on()
            case Hello.PARTIAL:
                # Bytes that lie there wake a reader at once and for ever: look again after a while.
                self._loop.call_later(guest.pause_s, self._look_again, guest)
                guest.pause_s = min(2 * guest.pause_s, LONGEST_LOOK_S)

    def _look_again(self, guest: Guest) -> None:
        if guest.fileno() >= 0:
            self._look(guest)

    def _hand_on(self) -> None:
        while (guest := self._lobby.next(self._loop.time())) is not None:
            guest.handed_on = True
            self.handover.offer(guest)

    def _sweep(self) -> None:
        for guest in self._lobby.overdue(self._loop.time()):
            self._refuse(guest, Refusal.NO_HELLO)
        self._hand_on()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _refuse(self, guest: Guest, why: Refusal) -> None:
        if not guest.refused:
            guest.refused = True
            self._refused(why)
        self._put_out(guest)

    def _put_out(self, guest: Guest) -> None:
        if guest.handed_on:  # asyncio's TLS has it: it sees the connection's end, and closes it
            with suppress(OSError):
                guest.shutdown(socket.SHUT_RDWR)
            return
        if guest.fileno() >= 0:
            self._loop.remove_reader(guest)
        guest.close()

    def _closed(self, key: Any, guest: Guest) -> None:
        self._guests.pop(key, None)
        self._lobby.leave(guest)
        if guest.handed_on and not guest.refused:
            guest.refused = True
            self._refused(Refusal.HANDSHAKE)


def guest_key(peer: Any, here: Any) -> Any:
    """Return what tells an open connection from all others: both ends' addresses."""
    return (*peer[:2], *here[:2])


def _listen(host: str, port: int, setting: str) -> list[socket.socket]:
    """Return listening sockets on all addresses of a host."""
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            where = (address[0], made[0].getsockname()[1] if made else port)
            try:
                listening = socket.create_server(where, family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and address != found[-1][4]:
                    continue  # a name stands for addresses of which this machine has not all
                raise
            listening.setblocking(False)
            made.append(listening)
    except OSError as error:
        for listening in made:
            listening.close()
        said, advice = f"cannot listen on {host}:{port}", f"change host or {setting} in server.yaml"
        if isinstance(error, socket.gaierror):  # its numbers are not the system's
            raise InvalidInput(f"{said}: {error.strerror}; {advice}") from None
        raise system_error(said, error, f"stop what uses it, or {advice}") from None
    return made
