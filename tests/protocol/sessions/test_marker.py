"""What leaves an institution that fails: a code. Everything of its own carries a marker that is looked for.

On a stage with the real institution, see `tests.protocol.sessions.stage`; here before the first round.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedapt_client.books.approval import Approvals
from fedapt_client.books.ledger import Ledger
from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import FedaptError, Unavailable
from fedapt_crypto.identity import Identity
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.digits.scans import CLASS_NAMES
from fedapt_secure.learning.data.reading.records import is_test
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from tests.protocol.federation import Federation
from tests.protocol.sessions.stage import MARKER, NAME, POLICY, Stage, write_images
from tests.world.stillness import Wire, resume


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_images(root)
    return root


def check(stage: Stage, reason: Reason) -> None:
    """Play, and search all that left and all that others wrote for anything of the institution's own."""
    error, federation = stage.play()
    assert error is not None, "nothing failed"
    assert stage.told() == [reason.value], str(error)
    assert federation.entries("left") == [{"name": NAME, "reason": reason.value}]
    stage.assert_nothing_left(federation, error)


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
        policy(coordinators=["0123 4567 89ab cdef 0123 4567 89ab cdef 0123 4567"]),
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
    check(stage, reason)
    assert stage.spent() == [], "what refuses comes before any spend"


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
