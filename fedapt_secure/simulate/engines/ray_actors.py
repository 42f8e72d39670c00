"""Institutions as Ray actors, on this machine or on a cluster.

What passes through Ray is where an institution's folder lies, and how its work ended: no key, image, update
or model. Each actor opens its folder, which all machines must see under the same path, and from there on is
the institution of a real deployment: it meets the coordinator over mutually authenticated TLS, and keeps
ledger and log in its folder. An actor that is lost is an institution that has lost its power: it drops out of
its round, and a new actor takes up its folder for the next.
"""

import asyncio
import hashlib
import logging
import os
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError, RpcError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedapt_crypto.errors import FedaptError, InvalidInput, RunFailed
from fedapt_secure import __version__
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.process.exit_status import ExitStatus, error_of, status_of
from fedapt_secure.simulate.engines.engine import LOOPBACK, Progress, Tell
from fedapt_secure.simulate.engines.ray_room import Node, Seen, check_machine, nodes_of, places, share_of

PLACE_S: Final = 300.0
"""How long to wait until Ray has started every actor: a cold machine reads gigabytes of libraries first."""
RESTARTS: Final = 3
PAUSE_S: Final = 1.0
KNOCK_S: Final = 5.0
AUTO: Final = "auto"
OBJECT_STORE_BYTES: Final = 100 * 2**20
"""Nothing of ours goes there; by default Ray takes a third of the memory."""
_LANDMARK: Final = "roster.json"
"""A file of the run folder by which a machine shows that it sees the same folder."""


class Institution:
    """What runs in an actor's process.

    Args:
        folder: The institution's folder.
        threads: For torch. One gives the very results of an engine without Ray.
    """

    def __init__(self, folder: str, threads: int) -> None:
        import torch  # noqa: PLC0415 - in the actor

        torch.set_num_threads(threads)
        self._folder = Path(folder)

    def ready(self) -> None:
        """Answer, once everything is loaded."""
        from fedapt_secure.simulate.engines import tasks  # noqa: F401, PLC0415

    def run(self, institutions: int) -> tuple[int, str]:
        """Take part; returns exit status and message of the command line, so that no exception travels."""
        from fedapt_secure.simulate.engines.tasks import institution  # noqa: PLC0415

        try:
            asyncio.run(institution(self._folder, institutions))
        except FedaptError as error:
            return int(status_of(error)), str(error)
        return int(ExitStatus.DONE), ""


def _look(landmark: str) -> tuple[str, str]:
    """Return the fields of `Seen`: plain strings, so that no type of ours is pickled."""
    path = Path(landmark)
    return __version__, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class RayEngine:
    """Runs the coordinator here and every institution in an actor.

    Args:
        host: This machine's address, as the cluster's machines reach it.
        cpus: Processors of each institution; ``None`` for an equal share, at most one.
        gpus: GPUs of each; a share of one is possible.
        tell: Shows the operator what happens to actors.
    """

    def __init__(self, host: str, cpus: float | None, gpus: float, tell: Tell) -> None:
        self.host = host
        self._asked_cpus, self._gpus, self._tell = cpus, gpus, tell
        self._cpus = 0.0
        self._actors: dict[str, Any] = {}
        self._lost: set[str] = set()
        self._is_over = False

    @property
    def lost(self) -> Collection[str]:
        """Institutions whose actors were lost more often than they are started again."""
        return frozenset(self._lost)

    def make_room(self, institutions: int) -> None:
        """Divide the cluster; see `Engine.make_room`."""
        self._cpus = share_of(nodes_of(ray.nodes()), institutions, self._asked_cpus, self._gpus)

    async def place(self, folders: Sequence[Path]) -> None:
        """Start an actor for each institution, and wait until all have loaded what they need.

        Raises:
            InvalidInput: If a machine does not see the run folder or has another version of ours.
            RunFailed: If Ray does not start them.
        """
        await self._check_machines(folders[0].parent.parent.resolve())
        self._tell(f"Ray: {len(folders)} institutions, {self._cpus:g} processors each")
        self._actors = {folder.name: self._actor(folder) for folder in folders}
        loading = [asyncio.ensure_future(actor.ready.remote()) for actor in self._actors.values()]
        try:
            await asyncio.wait_for(asyncio.gather(*loading), PLACE_S)
        except (TimeoutError, RayError) as error:
            self._end_all()
            why = f"not within {PLACE_S:g} s" if isinstance(error, TimeoutError) else _last_line(error)
            raise RunFailed(f"Ray could not start the institutions: {why}; 'ray status' says more") from None
        except BaseException:
            self._end_all()
            raise

    async def _check_machines(self, folder: Path) -> None:
        landmark = folder / _LANDMARK
        expected = Seen(*_look(str(landmark)))
        usable = [node for node in nodes_of(ray.nodes()) if places(node, self._cpus, self._gpus) > 0]
        answers = await asyncio.gather(
            *(_looking(node).remote(str(landmark)) for node in usable), return_exceptions=True
        )
        for node, answer in zip(usable, answers, strict=True):
            if isinstance(answer, BaseException):
                raise InvalidInput(
                    f"the Ray machine {node.address} cannot run fedapt-secure: {_last_line(answer)}; install"
                    f" fedapt-secure {__version__} there"
                )
            check_machine(node.address, Seen(*answer), expected, folder)

    async def run_coordinator(self, folder: Path) -> None:
        """See `Engine.run_coordinator`; in this process."""
        from fedapt_secure.simulate.engines.tasks import coordinator  # noqa: PLC0415 - heavy for actors

        try:
            await coordinator(folder)
        finally:
            self._is_over = True

    async def run_institution(self, folder: Path, institutions: int, progress: Progress | None) -> None:
        """See `Engine.run_institution`; progress is not told.

        An institution whose actor is lost is started again, `RESTARTS` times; then it stays away.
        """
        name = folder.name
        for attempt in range(RESTARTS + 1):
            status, message = await self._attempt(folder, institutions)
            if status == ExitStatus.DONE:
                return
            if attempt == 0 and status is not None:  # its own decision, not its machine's
                raise error_of(status, message)
            if self._is_over:
                break
            if attempt < RESTARTS:
                self._tell(f"{name}: {message}; it drops out and is started again")
                await asyncio.sleep(PAUSE_S * 2**attempt)
        self._lost.add(name)
        self._tell(f"{name}: {message}; it stays away")

    async def _attempt(self, folder: Path, institutions: int) -> tuple[int | None, str]:
        """Return status and message of an actor's work; without a status, the actor was lost."""
        actor = self._actors.pop(folder.name, None) or self._actor(folder)
        try:
            return tuple(await actor.run.remote(institutions))
        except RayTaskError as error:
            raise RunFailed(f"{folder.name}: {_last_line(error)}") from error
        except RayError as error:
            return None, f"its Ray actor was lost ({type(error).__name__})"
        finally:
            # Ended or lost, or we were cancelled: a power cut at most, for which its folder is prepared.
            ray.kill(actor)

    def _actor(self, folder: Path) -> Any:
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_restarts": 0, "max_task_retries": 0}
        threads = max(1, int(self._cpus))
        return ray.remote(Institution).options(**options).remote(str(folder.resolve()), threads)

    def _end_all(self) -> None:
        while self._actors:
            ray.kill(self._actors.popitem()[1])


def _looking(node: Node) -> Any:
    """Return what runs `_look` on a machine, whatever else runs there."""
    there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return ray.remote(_look).options(num_cpus=0, scheduling_strategy=there)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def ray_engine(settings: SimulateSettings, tell: Tell) -> Iterator[RayEngine]:
    """Join the cluster of the settings, or start one on this machine for the time of a run.

    A connection that this process has already is used, and kept.

    Raises:
        InvalidInput: If there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    ours = not ray.is_initialized()
    if ours:
        _connect(settings.ray_address)
    try:
        host = LOOPBACK if ours and settings.ray_address is None else ray.util.get_node_ip_address()
        yield RayEngine(host, settings.client_cpus, settings.client_gpus, tell)
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Find out at once whether somebody listens; Ray itself would try for many minutes."""
    if address != AUTO:
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def _connect(address: str | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # On loopback: Ray's own ports let in whoever reaches them.
        ray.init(
            "local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address=LOOPBACK,
            **quiet,
        )
        return
    try:
        _knock(address)
        ray.init(address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError, RpcError) as error:
        raise InvalidInput(
            f"there is no Ray cluster at {address}: {_last_line(error)}; 'ray start --head' starts one, and"
            " --ray-address auto finds the one of this machine"
        ) from None
