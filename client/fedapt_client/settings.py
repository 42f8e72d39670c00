"""An institution's own settings; the coordinator cannot change any of them."""

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from fedapt_crypto.encoding import PartyName
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.config import ranges
from fedapt_secure.config.policy import POLICY_FILE
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions, Subjects
from fedapt_secure.config.settings import SessionDelta, build, read_yaml
from fedapt_secure.log.line import HEAD_PATTERN
from fedapt_secure.notices.settings import NotifySettings
from fedapt_secure.protocol.transport import PING_TIMEOUT_S
from fedapt_secure.web.settings import PageSettings

SETTINGS_FILE: Final = "client.yaml"
"""Its name in the institution's folder."""


class ClientSettings(PageSettings):
    """What ``client.yaml`` says; `PageSettings` has what it says of the page.

    Attributes:
        name: This institution's name on the roster.
        host, port: Where the coordinator listens.
        enrolment_port: Its port for renewal and roster.
        answer_within_s: How long the coordinator may take to answer a ping before the connection counts as
            broken.
        proxy: Outbound HTTP proxy that connects us, ``http://[user:password@]host:port``; none by default.
        data: Folder ``class/image`` or CSV manifest ``path,label``.
        subjects: ``dicom``: the PatientID of DICOM files, as a keyed hash, says whose an image is; by default
            a manifest does, or nothing.
        reading: How DICOM and NIfTI files are read; a local matter as well.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: What the frozen towers compute in: ``auto``, ``float32`` or ``bfloat16``. A local matter:
            the other institutions' may differ.
        dp_epsilon: Largest ε that this institution spends in a session; by default the policy's
            session_epsilon, and never more than that.
        dp_delta: δ; by default 1 / (2 x declared records), or the policy's session_delta where that is less.
        policy: The institution's policy, relative to the party's folder; what must hold in every session.
        ledger: Where the ledger lies, relative to the party's folder; its key lies next to it.
        cache: Folder of the images' features, relative to the party's folder; as sensitive as the images.
        log: Where the log goes, relative to the party's folder.
        log_continues: Only where the log was lost: the head ``LOG:SEQ:HASH`` of it that others hold; a new
            log says with it what it takes the place of.
        experiment_seed: Makes sampling repeatable without differential privacy; ignored under it.
        insecure_deterministic_noise: Let ``experiment_seed`` decide noise and sampling under differential
            privacy too, to repeat an experiment. Whoever knows the seed can subtract the noise: the run
            is not private, and its log says so.
        fixed_answer_time: Let every update leave at the same time after its round's start, so that how long
            training took does not tell which images were sampled. Off only where nobody else watches.
        answer_rehearsals: Let the coordinator ask what a session would be here (`server rehearse`): a code
            and coarse times leave, nothing is spent, and nobody is asked. Without it the answer is
            ``not_approved``.
        notify: What is run or posted when people should know; ``None`` for nothing.
        vanish_at: ``ROUND:PHASE`` entries at which to lose the connection before sending, to rehearse
            failures.
    """

    name: PartyName
    host: str = "localhost"
    port: Annotated[int, ranges.PORT]
    enrolment_port: Annotated[int, ranges.PORT] = 8444
    answer_within_s: Annotated[float, ranges.ANSWER_TIME] = PING_TIMEOUT_S
    proxy: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(
        default=None, repr=False, description="http://HOST:PORT or https://HOST:PORT"
    )
    data: Path
    subjects: Subjects | None = None
    reading: ReadingOptions = AS_THEY_ARE
    device: Annotated[str, Field(pattern="^(auto|cpu|cuda)$")] = Field(
        default="auto", description="auto, cpu or cuda"
    )
    precision: Annotated[str, Field(pattern="^(auto|float32|bfloat16)$")] = Field(
        default="auto", description="auto, float32 or bfloat16"
    )
    dp_epsilon: Annotated[float, ranges.EPSILON] | None = None
    dp_delta: SessionDelta | None = None
    policy: Path = Path(POLICY_FILE)
    ledger: Path = Path("ledger.sqlite")
    cache: Path = Path("cache")
    log: Path = Path("log.jsonl")
    log_continues: Annotated[str, Field(pattern=HEAD_PATTERN)] | None = None
    experiment_seed: Annotated[int, ranges.SEED] | None = None
    insecure_deterministic_noise: bool = False
    fixed_answer_time: bool = True
    answer_rehearsals: bool = True
    notify: NotifySettings | None = None
    vanish_at: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _seeded(self) -> Self:
        if self.insecure_deterministic_noise and self.experiment_seed is None:
            raise ValueError("insecure_deterministic_noise needs experiment_seed, which decides the noise")
        return self

    @field_validator("vanish_at")
    @classmethod
    def _parse(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            parse_vanish(entry)
        return entries


def read_settings(folder: Path) -> ClientSettings:
    """Return what the ``client.yaml`` of a folder says; raises `InvalidInput` if it cannot be used."""
    path = folder / SETTINGS_FILE
    return build(ClientSettings, read_yaml(path), source=str(path))


def parse_vanish(entry: str) -> tuple[int, Phase]:
    """Return round and phase of a ``ROUND:PHASE`` entry; raises ValueError with what was expected."""
    number, _, phase = entry.partition(":")
    if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) >= 1):
        raise ValueError(f"{entry!r}: expected ROUND:PHASE with a round from 1")
    if phase not in set(Phase):
        raise ValueError(f"{entry!r}: unknown phase {phase!r}; phases are {', '.join(Phase)}")
    return int(number), Phase(phase)
