"""What leaves an institution that fails: a code. Everything of its own carries a marker that is looked for.

The institution is the real one: shell, books, ledger, log, learner, the shipped CLIP and images on disk. So
is the coordinator's machine. Only the socket between them is a list.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError

from fedapt_client.books.approval import Approvals
from fedapt_client.books.ledger import Ledger
from fedapt_client.conduct import Conduct
from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import FedaptError, Unavailable
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.digits.scans import CLASS_NAMES, write_digits
from fedapt_secure.learning.data.reading.records import is_test
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from fedapt_server.membership.templates import TINY_WEIGHTS
from tests.protocol.federation import Federation
from tests.world.stillness import Wire, resume

NAME = "clinic-1"
MARKER = "DOE_JANE_1961"
FIGURE = 3.141592653
"""In the policy of `clinic-1` and nowhere else."""
ENCODING = m.Activity(doing="encoding", percent=50).to_bytes()
POLICY = f"""\
max_epsilon: {FIGURE}
max_delta: 0.00314159
minimum_participants: 2
privacy_unit: any
unattended: true
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_digits(root, "ink", range(0, 1797, 20), False, np.random.default_rng(0))
    return root


class Stage:
    """One institution and a coordinator, with everything that passes between them.

    Attributes:
        folder: The institution's folder. data: Its images. settings: Its settings, which a test may change.
        sent: Every frame that left it.
    """

    def __init__(self, path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.folder = path / MARKER / "party"
        self.folder.mkdir(parents=True, mode=0o700)
        self.data = path / MARKER / f"images-{MARKER}"
        shutil.copytree(digits, self.data)
        for image in sorted(self.data.glob("*/*.png")):
            image.rename(image.with_name(f"{MARKER}-{image.name}"))
        self.settings = {"name": NAME, "port": 1, "data": self.data, "device": "cpu"}
        self.plan = TINY_WEIGHTS | {
            "class_names": CLASS_NAMES,
            "context_tokens": 2,
            "rounds": 1,
            "zero_shot_template": "a photo of a {}",
        }
        self.approvals: Approvals | None = None
        self.sent: list[bytes] = []
        self.write_policy(POLICY)
        monkeypatch.setenv("FEDAPT_WHATEVER", MARKER)

    def write_policy(self, text: str) -> None:
        (self.folder / "policy.yaml").write_text(text)

    def play(self) -> tuple[FedaptError | None, Federation]:
        """Offer the session, and let the institution do what it does; return how that ended."""
        federation = Federation(3, **self.plan)
        patch = self.monkeypatch.setattr
        patch(PartyFolder, "identity", lambda folder: federation.identities[NAME])
        patch(PartyFolder, "sealing_key", lambda folder: federation.sealing[NAME])
        patch(PartyFolder, "roster", lambda folder: federation.roster)
        patch(Conduct, "_from_a_thread", lambda shell, wire: lambda percent: wire._outlet(ENCODING))
        runner = InstitutionRunner(self.folder, ClientSettings(**self.settings), approvals=self.approvals)
        arrived: list[bytes] = []

        def leave(data: bytes) -> None:
            self.sent.append(data)
            arrived.append(data)

        federation._server(federation.coordinator.start())
        shell = runner._talk(Wire(leave))
        error: FedaptError | None = None
        try:
            resume(shell, None)
            arrived.clear()
            federation._server(federation.coordinator.connected(NAME))
            while federation._to_institutions:
                resume(shell, federation._to_institutions.popleft()[1])
                while arrived:
                    federation._server(federation.coordinator.receive(NAME, arrived.pop(0)))
        except FedaptError as failed:
            error = failed
        except ConnectionClosedError:
            pass
        finally:
            while arrived:
                federation._server(federation.coordinator.receive(NAME, arrived.pop(0)))
            shell.close()
            runner._log.close()
        return error, federation

    def check(self, reason: Reason) -> None:
        """Play, and search all that left and all that others wrote for anything of the institution's own."""
        error, federation = self.play()
        assert error is not None, "nothing failed"
        refusals = [m.SessionRefuse.from_bytes(data) for data in self.sent if b"session refuse" in data]
        assert [one.reason for one in refusals] == [reason.value], str(error)
        assert federation.entries("left") == [{"name": NAME, "reason": reason.value}]
        others = b"\n".join(federation.logs[COORDINATOR].lines)
        own = (MARKER, str(FIGURE)[:6], "3.14159", str(self.folder), str(self.data), str(error)[:40])
        for searched in (b"\n".join(self.sent), others):
            for mark in own:
                assert mark.encode() not in searched, mark
                assert os.fsencode(mark) not in searched


@pytest.fixture
def stage(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, digits, monkeypatch)


def first(folder: Path) -> Path:
    return sorted(folder.glob("*/*.png"))[0]


def no_images(stage: Stage) -> None:
    shutil.rmtree(stage.data)


def a_file_where_a_folder_was(stage: Stage) -> None:
    stage.settings["data"] = first(stage.data)


def a_name_as_class(stage: Stage) -> None:
    (stage.data / MARKER).mkdir()
    shutil.copy(first(stage.data), stage.data / MARKER / "1.png")


def nothing_to_decode(stage: Stage) -> None:
    for image in stage.data.glob("*/*.png"):
        image.write_bytes(b"not an image of " + MARKER.encode())


def a_manifest(text: str) -> Callable[[Stage], None]:
    def make(stage: Stage) -> None:
        manifest = stage.data / f"{MARKER}.csv"
        manifest.write_text(text.replace("IMAGE", str(first(stage.data))))
        stage.settings["data"] = manifest

    return make


def few_records(stage: Stage) -> None:
    """Only images that are held out: there is none to train on."""
    for image in sorted(stage.data.glob("*/*.png")):
        if not is_test(image.read_bytes()):
            image.unlink()


def more_than_a_session_may(stage: Stage) -> None:
    stage.settings["dp_epsilon"] = 3.0


def messages_beyond_the_policy(stage: Stage) -> None:
    policy(max_message_bytes=1 << 16)(stage)
    stage.plan["context_tokens"] = 30


def policy(**entries: object) -> Callable[[Stage], None]:
    def make(stage: Stage) -> None:
        kept = [line for line in POLICY.splitlines() if line.split(":")[0] not in entries]
        added = [f"{name}: {json.dumps(value)}" for name, value in entries.items()]
        stage.write_policy("\n".join([*kept, *added]) + "\n")

    return make


def a_policy_that_breaks_meanwhile(stage: Stage) -> None:
    def show(configuration: object) -> bool:
        return True

    stage.approvals = Approvals(stage.folder, ask=show)
    real = InstitutionRunner.__init__

    def then_broken(runner: InstitutionRunner, *arguments: object, **options: object) -> None:
        real(runner, *arguments, **options)
        stage.write_policy(f"max_epsilon: {MARKER}\n")

    stage.monkeypatch.setattr(InstitutionRunner, "__init__", then_broken)


def nobody_approved(stage: Stage) -> None:
    policy(unattended=False)(stage)


def somebody_says_no(stage: Stage) -> None:
    policy(unattended=False)(stage)
    stage.approvals = Approvals(stage.folder, ask=lambda configuration: False)


def another_roster(stage: Stage) -> None:
    stage.monkeypatch.setattr(
        PartyFolder, "roster", lambda folder: Federation(3, **stage.plan).roster, raising=True
    )


def other_weights(stage: Stage) -> None:
    stage.plan["weight_hash"] = "ab" * 32


def no_such_model(stage: Stage) -> None:
    stage.plan |= {"model": "ViT-B-32", "pretrained": "/nowhere/weights.bin"}


def a_class_that_fits_no_context(stage: Stage) -> None:
    stage.plan["class_names"] = (*CLASS_NAMES, "x q " * 60)


def more_context_than_clip_has(stage: Stage) -> None:
    stage.plan["context_tokens"] = 90


def a_full_disk(stage: Stage) -> None:
    def full(*arguments: object) -> None:
        error = Unavailable(f"the ledger {stage.folder} cannot be used: the disk is full")
        error.code = "no_space"
        raise error

    stage.monkeypatch.setattr(Ledger, "record_plan", full)


def a_full_disk_at_the_log(stage: Stage) -> None:
    real = LogWriter.write

    def full(log: LogWriter, type: str, *arguments: object, **options: object) -> object:
        if type == "session_accepted":
            raise Unavailable(f"{stage.folder}/log.jsonl cannot be written: the disk is broken")
        return real(log, type, *arguments, **options)

    stage.monkeypatch.setattr(LogWriter, "write", full)


FAILURES: dict[str, tuple[Callable[[Stage], None], Reason]] = {
    "no images": (no_images, Reason.DATA_UNREADABLE),
    "an image where a folder was": (a_file_where_a_folder_was, Reason.DATA_UNREADABLE),
    "a name as class": (a_name_as_class, Reason.CLASSES_DIFFER),
    "nothing to decode": (nothing_to_decode, Reason.DATA_UNREADABLE),
    "a column of a manifest": (a_manifest(f"path,{MARKER}\nIMAGE,zero\n"), Reason.MANIFEST_INVALID),
    "a cell of a manifest": (a_manifest(f"path,label\n{MARKER}.png,zero\n"), Reason.DATA_UNREADABLE),
    "a label of a manifest": (a_manifest(f"path,label\nIMAGE,{MARKER}\n"), Reason.CLASSES_DIFFER),
    "domains of a manifest": (
        a_manifest(f"path,label,domain\nIMAGE,zero,{MARKER}\nIMAGE,one,other\n"),
        Reason.MANIFEST_INVALID,
    ),
    "few records": (few_records, Reason.TOO_FEW_RECORDS),
    "the policy's epsilon": (more_than_a_session_may, Reason.POLICY_EPSILON),
    "the policy's participants": (policy(minimum_participants=77), Reason.POLICY_PARTICIPANTS),
    "the policy's aggregation": (policy(aggregation=["ckks"]), Reason.POLICY_AGGREGATION),
    "the policy's coordinators": (
        policy(coordinators=["0123 4567 89ab cdef 0123 4567 89ab cdef"]),
        Reason.POLICY_COORDINATOR,
    ),
    "the policy's unit": (policy(privacy_unit="person"), Reason.POLICY_UNIT),
    "the policy's message size": (messages_beyond_the_policy, Reason.POLICY_MESSAGE_SIZE),
    "a policy that breaks": (a_policy_that_breaks_meanwhile, Reason.POLICY_INVALID),
    "nobody approved": (nobody_approved, Reason.NOT_APPROVED),
    "somebody says no": (somebody_says_no, Reason.NOT_APPROVED),
    "other weights": (other_weights, Reason.MODEL_DIFFERS),
    "no such model": (no_such_model, Reason.MODEL_MISSING),
    "a class too long": (a_class_that_fits_no_context, Reason.PLAN_IMPOSSIBLE),
    "too much context": (more_context_than_clip_has, Reason.PLAN_IMPOSSIBLE),
    "a full disk": (a_full_disk, Reason.NO_SPACE),
    "a broken disk": (a_full_disk_at_the_log, Reason.DISK_ERROR),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_only_a_code_leaves(failure: str, stage: Stage) -> None:
    provoke, reason = FAILURES[failure]
    provoke(stage)
    stage.check(reason)
    if (stage.folder / "ledger.sqlite").exists():
        ledger = Ledger(stage.folder / "ledger.sqlite", lambda *_: None)
        assert all(one.steps_taken == 0 for one in ledger.sessions), "what refuses comes before any spend"


def test_the_stage_is_one_on_which_a_session_begins(stage: Stage) -> None:
    """Otherwise every test above could pass for a reason of its own."""
    error, federation = stage.play()
    assert error is None
    assert federation.entries("left") == []
    assert federation.entries("ready") == [{"name": NAME}]
    assert not any(MARKER.encode() in data for data in stage.sent)


def test_a_stranger_as_coordinator_learns_a_code_too(stage: Stage) -> None:
    federation = Federation(3, **stage.plan)
    forged = Identity.generate()
    patch = stage.monkeypatch.setattr
    patch(PartyFolder, "identity", lambda folder: federation.identities[NAME])
    patch(PartyFolder, "sealing_key", lambda folder: federation.sealing[NAME])
    patch(PartyFolder, "roster", lambda folder: federation.roster)
    runner = InstitutionRunner(stage.folder, ClientSettings(**stage.settings))
    shell = runner._talk(Wire(stage.sent.append))
    resume(shell, None)
    federation._server(federation.coordinator.connected(NAME))
    offer = m.SessionOffer.from_bytes(federation._to_institutions.popleft()[1])
    bad = offer.model_copy(update={"signature": forged.sign("session offer", federation.configuration.hash)})
    with pytest.raises(FedaptError, match="does not take part"):
        resume(shell, bad.to_bytes())
    runner._log.close()
    [refusal] = [m.SessionRefuse.from_bytes(data) for data in stage.sent if b"session refuse" in data]
    assert refusal.reason == "message_refused"
