"""The coordinator's own settings."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedapt_secure.audit.line import HEAD_PATTERN
from fedapt_secure.config.settings import Settings


class ServerSettings(Settings):
    """What ``server.yaml`` says.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one and logs it.
        session: File with the session plan, relative to the coordinator's folder.
        log: Where the log goes, relative to the coordinator's folder.
        log_continues: Only where the log was lost: the head ``LOG:SEQ:HASH`` of it that others hold; a new
            log says with it what it takes the place of.
        experiment_seed: Makes the domain keys repeatable, and so known to everybody: for experiments only.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    session: Path = Path("session.yaml")
    log: Path = Path("log.jsonl")
    log_continues: Annotated[str, Field(pattern=HEAD_PATTERN)] | None = None
    experiment_seed: Annotated[int, Field(ge=0)] | None = None
