"""An institution's own settings; the coordinator cannot change any of them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from fedapt_crypto.encoding import PartyName
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.config.settings import Settings

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ClientSettings(Settings):
    """What ``client.yaml`` says.

    Attributes:
        name: This institution's name on the roster.
        host, port: Where the coordinator listens.
        enrolment_port: Its port for renewal and roster.
        proxy: Outbound HTTP proxy that connects us, ``http://[user:password@]host:port``; none by default.
        data: Folder ``class/image`` or CSV manifest ``path,label``.
        device: ``auto``, ``cpu`` or ``cuda``.
        dp_epsilon: Largest ε that this institution spends in the session.
        dp_delta: δ; by default 1 / (2 x declared records).
        require_differential_privacy: Refuse sessions without DP.
        require_secure_aggregation: Refuse sessions in which the coordinator sees updates.
        require_masking: Refuse CKKS too, which tolerates no collusion.
        minimum_participants: Smallest survivor set this institution helps to unmask; the protocol's
            threshold holds anyway.
        log: Where the log goes, relative to the party's folder.
        experiment_seed: Makes sampling repeatable, without differential privacy only; ignored under it.
        vanish_at: ``ROUND:PHASE`` entries at which to lose the connection before sending, to rehearse
            failures.
    """

    name: PartyName
    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)]
    enrolment_port: Annotated[int, Field(ge=1, le=65535)] = 8444
    proxy: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(default=None, repr=False)
    data: Path
    device: Annotated[str, Field(pattern="^(auto|cpu|cuda)$")] = "auto"
    dp_epsilon: PositiveFloat = 8.0
    dp_delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    require_differential_privacy: bool = True
    require_secure_aggregation: bool = True
    require_masking: bool = False
    minimum_participants: Annotated[int, Field(ge=1)] = 2
    log: Path = Path("log.jsonl")
    experiment_seed: Annotated[int, Field(ge=0)] | None = None
    vanish_at: tuple[str, ...] = ()

    @field_validator("vanish_at")
    @classmethod
    def _parse(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            parse_vanish(entry)
        return entries


def parse_vanish(entry: str) -> tuple[int, Phase]:
    """Return round and phase of a ``ROUND:PHASE`` entry; raises ValueError with what was expected."""
    number, _, phase = entry.partition(":")
    if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) >= 1):
        raise ValueError(f"{entry!r}: expected ROUND:PHASE with a round from 1")
    if phase not in set(Phase):
        raise ValueError(f"{entry!r}: unknown phase {phase!r}; phases are {', '.join(Phase)}")
    return int(number), Phase(phase)
