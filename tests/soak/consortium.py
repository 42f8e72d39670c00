"""Found a federation of many institutions in one folder: real keys, certificates, roster, policies."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fedapt_client.membership import enrolment, rosters
from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.settings import ClientSettings
from fedapt_crypto.private_files import make_private_folder
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_secure.config.party_folder import PartyFolder, roster_to_json
from fedapt_secure.config.policy import POLICY_FILE, Policy
from fedapt_secure.config.settings import write_yaml
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_server.membership.founding import found
from fedapt_server.membership.templates import TINY_WEIGHTS
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from fedapt_server.settings import ServerSettings
from tests.support.offices import HOST, free_port

DOMAINS = ("ink", "chalk", "print", "pencil")
LOCAL_STEPS = 2


@dataclass(frozen=True)
class Consortium:
    """A federation on disk that is ready to start."""

    path: Path
    roster: Roster
    plan: SessionPlan
    port: int

    @property
    def coordinator(self) -> Path:
        return self.path / "parties" / COORDINATOR

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def roster_file(self) -> Path:
        return self.path / "roster.json"

    def party(self, name: str) -> Path:
        return self.path / "parties" / name

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.jsonl"


def plan_of(rounds: int, gather_timeout_s: float) -> SessionPlan:
    return SessionPlan.model_validate(
        {
            "class_names": tuple(f"class-{number}" for number in range(10)),
            "domains": DOMAINS,
            "zero_shot_template": "a photo of a {}",
            "model": "tiny",
            "pretrained": None,
            "weight_hash": "0" * 64,
            "model_identity": TINY_WEIGHTS["model_identity"],
            "text_width": 64,
            "feature_size": 64,
            "context_tokens": 4,
            "class_specific": True,
            "rounds": rounds,
            "local_steps": LOCAL_STEPS,
            "sample_rate": 0.5,
            "learning_rate": 0.5,
            "momentum": 0.9,
            "max_grad_norm": 1.0,
            "differential_privacy": True,
            "secure_aggregation": "masking",
            "clip": 4.0,
            "temperature": 0.01,
            "initial_seed": 0,
            "round_timeout_s": 120.0,
            "phase_timeout_s": 60.0,
            "gather_timeout_s": gather_timeout_s,
        }
    )


def found_consortium(
    path: Path, institutions: int, rounds: int, gather_timeout_s: float = 20.0
) -> Consortium:
    """Found, enrol and approve, with the steps of the real commands and no connection between them."""
    parties = make_private_folder(path / "parties")
    (path / "logs").mkdir()
    coordinator = PartyFolder(parties / COORDINATOR)
    port = free_port()
    settings = ServerSettings(
        federation="soak",
        host=HOST,
        port=port,
        enrolment_port=free_port(),
        health_port=0,
        log=Path("../../logs") / f"{COORDINATOR}.jsonl",
    )
    registrar = found(coordinator, settings)
    for domain in DOMAINS:
        registrar.membership.add_domain(domain)
    enrolled = []
    for number in range(institutions):
        name = f"clinic-{number + 1}"
        party = PartyFolder(parties / name)
        join, _ = registrar.invite(name, DOMAINS[number % len(DOMAINS)], timedelta(hours=1))
        request = enrolment.begin(party, join)
        assert request is not None
        answer = registrar.enrol(*registrar.admit(join.token, request.to_bytes()))
        enrolment.finish(party, join, request, answer, enrolment.Options(host=HOST))
        own = ClientSettings(
            fixed_answer_time=False,
            name=name,
            host=HOST,
            port=port,
            data=Path("data"),
            log=Path("../../logs") / f"{name}.jsonl",
        )
        write_yaml(party.path / CLIENT_FILE, own, comment="The institution's settings.")
        policy = Policy(max_delta=1e-3, unattended=True, minimum_records=0)
        write_yaml(party.path / POLICY_FILE, policy, comment="The institution's policy.")
        enrolled.append(party)
    signed = registrar.roster_file()
    assert signed is not None
    for party in enrolled:
        rosters.approve(party, signed)
    plan = plan_of(rounds, gather_timeout_s)
    write_yaml(coordinator.path / "session.yaml", plan, comment="The session.")
    write_yaml(coordinator.path / SERVER_FILE, settings, comment="The coordinator's settings.")
    made = Consortium(path, signed.content, plan, port)
    made.roster_file.write_text(roster_to_json(made.roster))
    return made
