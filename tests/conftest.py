"""What a whole test run shares: the processes that commands, and workers of CKKS, are forked from."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pytest

from fedapt_crypto.secagg.ckks import process
from fedapt_crypto.sharing import sharing
from tests.support import warm
from tests.support.examples import GATE, note_the_gate

COLD: Final = pytest.StashKey[tuple[str, ...]]()
"""How workers of CKKS start outside tests."""

SHARED: Final = ("audit", "hostile", "protocol", "world")
"""Rooms of tests in which whole federations are played in one process."""

LONG: Final = ("integration", "export", "hostile", "world", "deploy", "cli", "audit", "protocol", "learning")
"""Rooms whose tests last, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what lasts: what takes milliseconds is left for the end, which workers share out evenly."""
    rank = {room: place for place, room in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(_room(item), len(LONG)))


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of later garbage collections: a million objects of torch and others."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let what was kept out be collected at the end: libraries complain of what they find there."""
    gc.unfreeze()


def _room(item: pytest.Item) -> str:
    parts = item.path.relative_to(Path(__file__).parent).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.fixture(autouse=True)
def _work_is_shared(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check in the gate what many parties of one process hold once, as simulations do; see `sharing`.

    A good part of their time is signatures that every party checks. In `make test-all` each checks its own.
    """
    with sharing() if GATE in os.environ and _room(request.node) in SHARED else nullcontext():
        yield


@pytest.fixture(scope="session", autouse=True)
def _digits_are_written_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In the gate federations take digits that the first of them has dealt; see `tests.support.digits`."""
    with pytest.MonkeyPatch.context() as patch:
        if GATE in os.environ:
            from tests.support.digits import DealtDigits, copied, run_folder  # noqa: PLC0415 - numpy, PIL

            known = DealtDigits(run_folder(tmp_path_factory, "dealt"), copied)
            patch.setattr("fedapt_secure.learning.data.dealing.write_digits", known)
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Start them once: workers of pytest inherit where they listen, and what kind of run this is."""
    note_the_gate(config)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As shells leave it for what runs behind them: nothing that is started here could be interrupted.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for variable in (warm.SOCKET, warm.CKKS_SOCKET):
        if variable not in os.environ:
            config.add_cleanup(warm.WarmServer(variable).close)
    config.stash[COLD] = process._COMMAND
    process._COMMAND = tuple(warm.worker_program())
