"""What leaves an institution that fails during the rounds or at the end: a code, and nothing of its own.

As `test_marker` before the first round. A session of three rounds among three is played; the failure comes
with the second, or with the end. Every byte that was sent and the logs of all others are searched.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedapt_client.books.books import Books
from fedapt_client.books.ledger import Ledger
from fedapt_client.session.requirements import Requirements
from fedapt_client.training.kept_models import KeptModels
from fedapt_client.training.learner import Learner
from fedapt_crypto.encoding import encode
from fedapt_crypto.errors import (
    BudgetExhausted,
    FedaptError,
    InvalidInput,
    PolicyRefused,
    RunFailed,
    Unavailable,
)
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.data.features.pixels import ImageSource
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from tests.protocol.federation import Federation
from tests.protocol.sessions.stage import MARKER, NAME, POLICY, Stage, write_images
from tests.protocol.sessions.test_marker import policy
from tests.support.examples import often

SECOND = 2
Provoke = Callable[[Stage], None]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_images(root)
    return root


@pytest.fixture
def stage(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path, digits, monkeypatch)
    stage.company = True
    stage.plan["rounds"] = 3
    return stage


def at_second(stage: Stage, happens: Callable[[], object]) -> None:
    """Let something happen when the second round begins, before the institution hears of it."""

    def arriving(data: bytes, federation: Federation) -> None:
        if b"round start" in data and m.RoundStart.from_bytes(data).round == SECOND:
            happens()

    stage.arriving = arriving


def at_end(stage: Stage, happens: Callable[[], object]) -> None:
    def arriving(data: bytes, federation: Federation) -> None:
        if b"session end" in data:
            happens()

    stage.arriving = arriving


def raising(make: Callable[[Stage], BaseException], where: type, name: str) -> Provoke:
    """Let a method of ours raise from the second round on; the error's text is marked."""

    def provoke(stage: Stage) -> None:
        def fails(*_: object, **__: object) -> object:
            raise make(stage)

        at_second(stage, lambda: stage.monkeypatch.setattr(where, name, fails))

    return provoke


def coded(kind: type[FedaptError], code: str | None) -> Callable[[Stage], BaseException]:
    def make(stage: Stage) -> FedaptError:
        error = kind(f"{MARKER}: {stage.folder}")
        if code is not None:
            error.code = code
        return error

    return make


def plain(kind: type[BaseException]) -> Callable[[Stage], BaseException]:
    return lambda stage: kind(f"{MARKER}: {stage.data}")


def of_the_tower(stage: Stage) -> None:
    """FedAvg trains on the images themselves, and so reads them in every round; never under privacy."""
    stage.monkeypatch.setattr(ImageSource, "_keep", lambda *_: None)  # as where there are more than fit
    stage.plan |= {
        "method": "fedavg",
        "tower_values": load_backbone().image_tower_values,
        "class_specific": True,
        "differential_privacy": False,
        "sample_rate": 0.3,  # no batch is empty
        "rounds": 2,
    }
    stage.of_the_others = Requirements(
        differential_privacy=False, aggregation=("masking",), minimum_participants=2
    )
    stage.write_policy(f"{POLICY}require_differential_privacy: false\n")


def images_vanish(stage: Stage) -> None:
    of_the_tower(stage)
    at_second(stage, lambda: shutil.rmtree(stage.data))


def images_vanish_at_the_end(stage: Stage) -> None:
    of_the_tower(stage)
    at_end(stage, lambda: shutil.rmtree(stage.data))


def images_break(stage: Stage) -> None:
    of_the_tower(stage)

    def broken() -> None:
        for image in stage.data.glob("*/*.png"):
            image.write_bytes(MARKER.encode())

    at_second(stage, broken)


def a_stricter_policy(stage: Stage) -> None:
    at_second(stage, lambda: policy(max_epsilon=0.1, session_epsilon=0.1)(stage))


def more_participants(stage: Stage) -> None:
    at_second(stage, lambda: policy(minimum_participants=77)(stage))


def another_coordinator(stage: Stage) -> None:
    allowed = ["0123 4567 89ab cdef 0123 4567 89ab cdef 0123 4567"]
    at_second(stage, lambda: policy(coordinators=allowed)(stage))


def a_policy_that_breaks(stage: Stage) -> None:
    at_second(stage, lambda: stage.write_policy(f"{MARKER}: {MARKER}\n"))


def log_full_at(type: str) -> Provoke:
    def provoke(stage: Stage) -> None:
        real, begun = LogWriter.write, []

        def full(log: LogWriter, kind: str, *arguments: object, **options: object) -> object:
            if begun and kind == type:
                raise coded(Unavailable, "no_space")(stage)
            return real(log, kind, *arguments, **options)

        at_second(stage, lambda: begun.append(True))
        stage.monkeypatch.setattr(LogWriter, "write", full)

    return provoke


def a_ledger_that_is_none(stage: Stage) -> None:
    def overwrite() -> None:
        for path in stage.folder.glob("ledger.sqlite*"):
            path.write_bytes(MARKER.encode() * 1000)

    at_second(stage, overwrite)


def no_model_folder(stage: Stage) -> None:
    """The folder of finished models is a file with a marked name's text."""

    def spoil() -> None:
        shutil.rmtree(stage.folder / "models", ignore_errors=True)
        (stage.folder / "models").write_text(MARKER)

    at_end(stage, spoil)


def nothing_to_evaluate(stage: Stage) -> None:
    def fails(*_: object) -> object:
        raise InvalidInput(f"{stage.data}/{MARKER} is gone")

    at_end(stage, lambda: stage.monkeypatch.setattr(Learner, "conclude", fails))


def no_space_for_the_model(stage: Stage) -> None:
    def fails(*_: object) -> object:
        raise coded(Unavailable, "no_space")(stage)

    at_end(stage, lambda: stage.monkeypatch.setattr(KeptModels, "keep_evaluation", fails))


def stopped_at(kind: bytes) -> Provoke:
    def provoke(stage: Stage) -> None:
        seen: list[bytes] = []

        def stops(data: bytes) -> bool:
            seen.append(data)
            rounds = sum(b"round start" in one for one in seen)
            return rounds >= SECOND and kind in data

        stage.stops_at = stops

    return provoke


def instead_of(kind: bytes, make: Callable[[bytes, Stage], bytes]) -> Provoke:
    """Another frame than the coordinator's, from the second round on."""

    def provoke(stage: Stage) -> None:
        rounds: list[bytes] = []

        def changed(data: bytes, federation: Federation) -> bytes:
            if b"round start" in data:
                rounds.append(data)
            return make(data, stage) if len(rounds) >= SECOND and kind in data else data

        stage.changed = changed

    return provoke


def with_payload(payload: bytes) -> Callable[[bytes, Stage], bytes]:
    return lambda data, stage: (
        m.Aggregation.from_bytes(data).model_copy(update={"payload": payload}).to_bytes()
    )


def unsigned(kind: type[m.RoundEnd | m.SessionEnd | m.SessionClosed], field: str) -> Callable[..., bytes]:
    return lambda data, stage: kind.from_bytes(data).model_copy(update={field: bytes(64)}).to_bytes()


@dataclass(frozen=True)
class Case:
    """A failure, the codes that leave, and the error with which the institution ends, if it does."""

    provoke: Provoke
    told: Sequence[Reason] = ()
    ends: type[BaseException] | None = None


CASES: dict[str, Case] = {
    "images vanish": Case(images_vanish, [Reason.DATA_CHANGED], RunFailed),
    "images vanish at the end": Case(images_vanish_at_the_end, (), RunFailed),
    "images break": Case(images_break, [Reason.DATA_CHANGED], RunFailed),
    "a stricter policy": Case(a_stricter_policy, [Reason.POLICY_EPSILON] * 2),
    "more participants": Case(more_participants, [Reason.POLICY_PARTICIPANTS]),
    "another coordinator": Case(another_coordinator, [Reason.POLICY_COORDINATOR] * 2),
    "a policy that breaks": Case(a_policy_that_breaks, [Reason.POLICY_INVALID] * 2),
    "a ledger that is none": Case(a_ledger_that_is_none, [Reason.LEDGER_DIFFERS] * 2),
    "no space to join": Case(
        raising(coded(Unavailable, "no_space"), Ledger, "join"), [Reason.NO_SPACE], Unavailable
    ),
    "no space to reserve": Case(
        raising(coded(Unavailable, "no_space"), Ledger, "reserve"), [Reason.NO_SPACE], Unavailable
    ),
    "no disk to release": Case(
        raising(coded(Unavailable, None), Ledger, "release"), [Reason.DISK_ERROR], Unavailable
    ),
    "the budget is spent": Case(
        raising(coded(BudgetExhausted, None), Books, "reserve"), [Reason.BUDGET_SPENT]
    ),
    "the allowance is used up": Case(
        raising(
            lambda stage: PolicyRefused(f"{MARKER} {stage.folder}", rule="max_epsilon"), Books, "reserve"
        ),
        [Reason.POLICY_EPSILON],
    ),
    **{
        f"no space for the log's {type}": Case(log_full_at(type), [Reason.NO_SPACE], Unavailable)
        for type in ("round_joined", "spend", "released", "phase", "round_ended", "witnessed")
    },
    "training: a mistake of ours": Case(raising(plain(RuntimeError), Learner, "train"), (), RuntimeError),
    "training: a key": Case(raising(plain(KeyError), Learner, "train"), (), KeyError),
    "training: no memory": Case(
        raising(plain(MemoryError), Learner, "train"), [Reason.NO_MEMORY], MemoryError
    ),
    "training: input": Case(
        raising(coded(InvalidInput, None), Learner, "train"), [Reason.OTHER], InvalidInput
    ),
    "training: failed": Case(raising(coded(RunFailed, None), Learner, "train"), [Reason.OTHER], RunFailed),
    "no folder for the model": Case(no_model_folder, (), InvalidInput),
    "nothing to evaluate": Case(nothing_to_evaluate, (), InvalidInput),
    "no space for the model": Case(no_space_for_the_model, [Reason.NO_SPACE], Unavailable),
    "SIGTERM before a round": Case(stopped_at(b"round start"), (), asyncio.CancelledError),
    "SIGTERM in a round": Case(stopped_at(b"aggregation"), (), asyncio.CancelledError),
    "SIGTERM at the end": Case(stopped_at(b"session end"), (), asyncio.CancelledError),
    "a payload of rubbish": Case(instead_of(b"aggregation", with_payload(b"rubbish"))),
    "an empty payload": Case(instead_of(b"aggregation", with_payload(b""))),
    "rubbish": Case(instead_of(b"aggregation", lambda data, stage: b"\xc1")),
    "a kind that nobody knows": Case(
        instead_of(b"round start", lambda data, stage: encode({"kind": "something"}))
    ),
    "out of turn": Case(instead_of(b"round start", lambda data, stage: m.Standby().to_bytes())),
    "a round that there is not": Case(
        instead_of(
            b"round start",
            lambda data, stage: m.RoundStart.from_bytes(data).model_copy(update={"round": 9}).to_bytes(),
        )
    ),
    "an end of a round that nobody signed": Case(
        instead_of(b"round end", unsigned(m.RoundEnd, "countersignature"))
    ),
    "an end that nobody signed": Case(
        instead_of(b"session end", unsigned(m.SessionEnd, "signature")), told=(Reason.MESSAGE_REFUSED,)
    ),
    "a record that nobody signed": Case(
        instead_of(b"session closed", unsigned(m.SessionClosed, "countersignature"))
    ),
}


@pytest.mark.parametrize("name", often(CASES, 2))
def test_only_a_code_leaves(name: str, stage: Stage) -> None:
    case = CASES[name]
    case.provoke(stage)
    error, federation = stage.play()
    stage.assert_nothing_left(federation, error)
    assert stage.told() == [reason.value for reason in case.told], repr(error)
    if case.ends is None:
        assert error is None
    else:
        assert isinstance(error, case.ends), repr(error)
    others = {body["reason"] for kind in ("left", "declined") for body in federation.entries(kind)}
    assert others == {reason.value for reason in case.told}, "what the coordinator writes down"
    first = next(body for body in federation.entries("round_ended") if body["round"] == 1)
    assert NAME in first["contributors"], "the failure comes after a round that went well"


def test_what_is_searched_for_is_there_to_be_found(stage: Stage) -> None:
    """Its own log has the sentence, with the marker: so it was there to be sent."""
    a_policy_that_breaks(stage)
    stage.play()
    assert MARKER in (stage.folder / "log.jsonl").read_text()
