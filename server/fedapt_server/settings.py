"""The coordinator's own settings."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from fedapt_crypto.encoding import PartyName
from fedapt_secure.config import ranges
from fedapt_secure.log.line import HEAD_PATTERN
from fedapt_secure.notices.settings import NotifySettings
from fedapt_secure.protocol.joining.enrolment import PRINTABLE
from fedapt_secure.protocol.joining.join_string import Address
from fedapt_secure.protocol.transport import PING_TIMEOUT_S
from fedapt_secure.web.settings import PageSettings

SETTINGS_FILE: Final = "server.yaml"
"""Its name in the coordinator's folder."""


class ServerSettings(PageSettings):
    """What ``server.yaml`` says; `PageSettings` has what it says of the page.

    Attributes:
        federation: Name of the federation, in its authority's certificate.
        name: The coordinator's own name, in its certificate.
        addresses: Host names and IP addresses under which institutions reach it; they go into its
            certificate and into join strings.
        host: Address to listen on.
        port: Port of the rounds; 0 takes a free one and logs it.
        enrolment_port: Port of enrolment, renewal and roster.
        health_port: Port of health and metrics on the loopback interface; 0 for none.
        max_connections: How many connections with a good certificate the rounds port holds at once.
        answer_within_s: How long an institution may take to answer a ping before its connection counts as
            broken.
        max_message_bytes: The largest message that is taken from an institution. A session whose messages are
            larger is not started.
        certificate_days: How long certificates are valid.
        session: File with the session plan, relative to the coordinator's folder.
        notify: What is run or posted when people should know; ``None`` for nothing.
        log: Where the log goes, relative to the coordinator's folder.
        log_continues: Only where the log was lost: the head ``LOG:SEQ:HASH`` of it that others hold; a new
            log says with it what it takes the place of.
        experiment_seed: Makes the domain keys repeatable, and so known to everybody: for experiments only.
    """

    federation: Annotated[str, Field(min_length=1, max_length=60, pattern=PRINTABLE)] = "federation"
    name: PartyName = "coordinator"
    addresses: Annotated[tuple[Address, ...], Field(min_length=1, max_length=8)] = ("localhost", "127.0.0.1")
    host: str = "127.0.0.1"
    port: Annotated[int, ranges.PORT_OR_NONE] = 8443
    enrolment_port: Annotated[int, ranges.PORT] = 8444
    health_port: Annotated[int, ranges.PORT_OR_NONE] = 9090
    max_connections: Annotated[int, ranges.CONNECTIONS] = 1024
    answer_within_s: Annotated[float, ranges.ANSWER_TIME] = PING_TIMEOUT_S
    max_message_bytes: Annotated[int, ranges.MESSAGE_FROM_INSTITUTION] = ranges.USUAL_MESSAGE_BYTES
    certificate_days: Annotated[int, ranges.CERTIFICATE_DAYS] = 90
    session: Path = Path("session.yaml")
    notify: NotifySettings | None = None
    log: Path = Path("log.jsonl")
    log_continues: Annotated[str, Field(pattern=HEAD_PATTERN)] | None = None
    experiment_seed: Annotated[int, ranges.SEED] | None = None
