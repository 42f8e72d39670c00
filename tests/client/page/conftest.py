"""An institution's folder as enrolment leaves it, and what its process leaves there of sessions."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedapt_client.offer_facts import offer_fields
from fedapt_client.page.offer_file import write_offer
from fedapt_client.settings import read_settings
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.policy import Policy
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare

NAME = "clinic-1"
SESSION = "ab" * 16
HOSTILE = '<script>alert("1")</script>'


@dataclass
class Party:
    """One institution's folder, and the federation that it is of."""

    federation: Federation
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / read_settings(self.folder).log

    def writer(self) -> LogWriter:
        identity = PartyFolder(self.folder).identity()
        return LogWriter(self.log, party=NAME, role="institution", identity=identity)

    def configuration(self, **plan: Any) -> SessionConfiguration:
        changed = self.federation.plan.model_copy(update=plan)
        return SessionConfiguration.drafted(changed, self.federation.roster)

    def offer(self, **plan: Any) -> dict[str, Any]:
        """Leave an offer in the folder, and return its fields."""
        settings = read_settings(self.folder)
        policy = Policy(max_epsilon=20, session_epsilon=8)
        fields = offer_fields(self.configuration(**plan), settings, policy, "policy.yaml")
        write_offer(self.folder, fields)
        return fields


def accepted(rounds: int, epsilon: float | None = 8.0) -> dict[str, Any]:
    privacy = None if epsilon is None else {"epsilon_budget": epsilon}
    return {"session": SESSION, "plan": {"rounds": rounds}, "privacy": privacy}


def write_rounds(party: Party, numbers: range, planned: int) -> None:
    with_log = party.writer()
    if numbers.start == 1:
        with_log.write("session_accepted", accepted(planned))
    for number in numbers:
        about = {"session": SESSION, "round": number}
        with_log.write("round_joined", about | {"attempt": 1})
        with_log.write("spend", about | {"epsilon": 8.0 * number / planned})
        with_log.write("phase", {"round": number, "phase": "masked_input"})
        ended = {"attempt": 1, "status": "completed", "contributors": [NAME, "clinic-2"]}
        with_log.write("round_ended", about | ended)
    with_log.close()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    out = tmp_path_factory.mktemp("page") / "run"
    found = prepare(SimulateSettings(rounds=3, clients=3, dp_epsilon=8.0, out=out))
    connect_institutions(found, 1)
    return found


@pytest.fixture
def party(federation: Federation) -> Party:
    folder = federation.folder.party(NAME)
    found = Party(federation, folder)
    shutil.rmtree(folder / "models", ignore_errors=True)
    for name in ("offer.json", "approvals.json", "activity.json", "model.safetensors", "evaluation.json"):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / found.log).parent.glob("*.jsonl*"):
        path.unlink()
    return found


__all__ = ["COORDINATOR", "Party"]
