"""The side that may read the folder: starts the process that faces browsers, answers it, and gives out links.

It listens to nobody but that process, and to commands of the same user through a socket in the folder.
"""

import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final, Protocol

from fedapt_crypto.errors import FedaptError, InvalidInput, Unavailable, system_error
from fedapt_crypto.private_files import PRIVATE_FILE_MODE
from fedapt_secure.process.shown import sentence_shown
from fedapt_secure.web.access import Role, hashed, new_secret
from fedapt_secure.web.address import PageAddress
from fedapt_secure.web.pipe import MAX_ASKED, packed, plain, receive

SOCKET_FILE: Final = "page.sock"
START_S: Final = 30.0
STOP_S: Final = 5.0
logger = logging.getLogger("fedapt_secure")
_KEPT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "LC_CTYPE")
"""What of our surroundings the process that faces browsers gets: no passphrase is among it."""


class Desk(Protocol):
    """What a page shows, and does."""

    def look(self, known: str | None) -> Mapping[str, Any]:
        """Return the state with its ``version``, or ``{"same": True}`` where that is the one known."""

    def act(self, action: str, fields: Mapping[str, str]) -> str:
        """Do what a form asks for, and return what to say; raises `FedaptError` where it is refused."""


class PageServer:
    """Serves a page until it is stopped.

    Args:
        package: The party's package that holds the site, started with ``python -m``.
        desk: What the page shows and does.
        address: Where.
        folder: The party's folder, for the socket through which its commands ask for links.
        confined: Refuse to serve where the kernel cannot keep that process from opening files.

    Raises:
        InvalidInput: If the address cannot be used.
        Unavailable: If it is taken, or the process does not start.
    """

    def __init__(
        self, package: str, desk: Desk, address: PageAddress, folder: Path, *, confined: bool = True
    ) -> None:
        self._desk = desk
        self._address = address
        self._lock = Lock()
        listener = _listen(address)
        self.port: int = listener.getsockname()[1]
        self._pipe, theirs = socket.socketpair()
        try:
            numbers = (theirs.fileno(), listener.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", package, *map(str, numbers)],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for us, and then it ends with us
            )
        finally:
            theirs.close()
            listener.close()
        try:
            self._begin(confined)
            self._links = _LinkSocket(folder, self.link)
        except BaseException:
            self._pipe.close()
            self._process.kill()
            self._process.wait()
            raise
        self._answering = Thread(target=self._answer_all, name="page", daemon=True)
        self._answering.start()

    @property
    def process_id(self) -> int:
        """The number of the process that faces browsers."""
        return self._process.pid

    def link(self, role: Role) -> str:
        """Return a link that works once.

        Args:
            role: What who follows it may do.
        """
        secret = new_secret()
        self._send({"link": hashed(secret).hex(), "role": role.value})
        return self._address.link(self.port, secret)

    def wait(self) -> None:
        """Return once the process that faces browsers has ended."""
        self._answering.join()

    def stop(self) -> None:
        """End both."""
        self._links.close()
        with suppress(OSError):
            self._pipe.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answering.join(STOP_S)
        self._pipe.close()

    def _begin(self, confined: bool) -> None:
        address = self._address
        setup = {
            "hosts": address.hosts(self.port),
            "scheme": address.scheme,
            "allowed": address.allowed,
            "certificate": None if address.certificate is None else str(address.certificate.absolute()),
            "key": None if address.key is None else str(address.key.absolute()),
            "confined": confined,
        }
        self._pipe.settimeout(START_S)
        try:
            self._send(setup)
            answer = receive(self._pipe, MAX_ASKED)
        except TimeoutError:
            answer = {"failed": f"its process has not answered for {START_S:g} s"}
        except ConnectionError:
            answer = None
        self._pipe.settimeout(None)
        if answer is None:
            raise Unavailable("the page's process ended at once: what it wrote to standard error says why")
        if "failed" in answer:
            raise InvalidInput(f"the page is not served: {sentence_shown(answer['failed'])}")

    def _answer_all(self) -> None:
        with suppress(OSError, FedaptError):
            while (asked := receive(self._pipe, MAX_ASKED)) is not None:
                self._send({"answer": asked.get("ask"), "fields": plain(self._answered(asked))})

    def _answered(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            if asked.get("what") == "look":
                known = asked.get("known")
                return self._desk.look(known if isinstance(known, str) else None)
            fields = {name: str(value) for name, value in dict(asked.get("fields") or {}).items()}
            return {"done": True, "said": self._desk.act(str(asked.get("action")), fields)}
        except FedaptError as error:
            said = sentence_shown(error)
        except Exception:  # a page that shows nothing more would look as if nothing went on
            logger.exception("the page could not be answered")
            said = "something went wrong here: what the command wrote to standard error says what"
        return {"done": False, "said": said, "problem": said, "who": None, "version": None}

    def _send(self, fields: Mapping[str, Any]) -> None:
        with self._lock:
            self._pipe.sendall(packed(dict(fields)))


class _LinkSocket:
    """Gives links to commands of the same user, through a socket in the folder.

    Args:
        folder: The party's folder.
        link: Makes one.
    """

    def __init__(self, folder: Path, link: Any) -> None:
        self._link = link
        self._path = folder / SOCKET_FILE
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            self._path.unlink()
        try:
            with _short(self._path) as short:
                self._socket.bind(short)  # the folder is its owner's alone
                self._path.chmod(PRIVATE_FILE_MODE)
        except OSError as error:
            raise system_error(f"{self._path} cannot be made", error) from None
        self._socket.listen(4)
        Thread(target=self._answer_all, name="page links", daemon=True).start()

    def close(self) -> None:
        """Give out no more."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _answer_all(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError, FedaptError, ValueError):
                connection.settimeout(5)
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                user = struct.unpack("3i", credentials)[1]
                asked = receive(connection, MAX_ASKED) if user in (0, os.geteuid()) else None
                if asked is not None:
                    connection.sendall(packed({"link": self._link(Role(str(asked.get("role"))))}))


class _short:  # noqa: N801 - used as a function
    """The path of a socket, through its folder's descriptor: the system takes no more than 107 bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)


def mark_of(path: Path) -> str:
    """Return what changes when a file does, for a desk's ``version``.

    Args:
        path: The file; it may not be there.
    """
    try:
        found = path.stat()
    except OSError:
        return "-"
    return f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}"


def ask_for_link(folder: Path, role: Role) -> str | None:
    """Return a link of the page that is served for a folder; ``None`` where none is.

    Args:
        folder: The party's folder.
        role: What who follows it may do.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            with _short(folder / SOCKET_FILE) as short:
                connection.connect(short)
            connection.sendall(packed({"role": role.value}))
            answer = receive(connection, MAX_ASKED)
        except OSError:
            return None
    return None if answer is None else str(answer["link"])


def _listen(address: PageAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"the page cannot be served at {address.host} port {address.port}: {error.strerror}"
        ) from None
    return listener
