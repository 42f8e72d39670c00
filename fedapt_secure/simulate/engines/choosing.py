"""Which engine a run asks for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.simulate import RAY, SimulateSettings
from fedapt_secure.simulate.engines.engine import Engine, Tell
from fedapt_secure.simulate.engines.processes import ProcessEngine
from fedapt_secure.simulate.engines.tasks import TaskEngine


@contextmanager
def open_engine(settings: SimulateSettings, tell: Tell = lambda _: None) -> Iterator[Engine]:
    """Give the engine of a run; with Ray, join a cluster or start one here, and leave it at the end.

    Args:
        settings: Of the run.
        tell: Shows the operator what the engine has to say.

    Raises:
        InvalidInput: If Ray is not installed, or there is no cluster where one was named.
    """
    if settings.engine != RAY:
        yield local_engine(settings)
        return
    if find_spec("ray") is None:
        raise InvalidInput("--engine ray needs Ray: pip install 'fedapt-secure[ray]'")
    # Read when Ray is imported: at a port that is not Ray's it would try twenty times half a minute.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    from fedapt_secure.simulate.engines.ray_actors import ray_engine  # noqa: PLC0415 - an extra, and heavy

    with ray_engine(settings, tell) as engine:
        yield engine


def local_engine(settings: SimulateSettings) -> Engine:
    """Return the engine of a run on this machine alone."""
    return ProcessEngine() if settings.processes else TaskEngine()
