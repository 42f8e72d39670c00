"""Runs a federation that is ready to start, whichever kind it is: the one way that all commands take."""

import asyncio

from fedapt_secure.config.structured_log import quiet
from fedapt_secure.process.interrupts import left_to_asyncio
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.simulate.running import alone, session_run
from fedapt_secure.simulate.setup.federation import Federation


def carry_out(
    federation: Federation, watch: session_run.Watch, encoding: session_run.EncodingProgress | None = None
) -> None:
    """Run a federation to its end, or let its institutions work by themselves.

    Args:
        federation: The run.
        watch: Told of every log line.
        encoding: Told while institutions encode images, from their threads.

    Raises:
        InvalidInput, RunFailed: If it cannot be carried out; names the party.
    """
    with quiet():
        if method_facts(federation.settings.method).federated:
            with left_to_asyncio():
                asyncio.run(session_run.run(federation, watch, encoding))
        else:
            alone.run(federation, watch, encoding)
