"""The parties of every world: keys, roster and folders, made once and copied for each world."""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fedapt_client.settings import ClientSettings
from fedapt_crypto import domain_keys
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.cohorts import Participation
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from tests.protocol.federation import DOMAINS, make_plan
from tests.support.rosters import roster_of

POLICY = """\
max_epsilon: 8.0
max_delta: 0.01
session_epsilon: 8.0
session_delta: 0.01
minimum_participants: 2
minimum_institutions_per_key: 1
minimum_records: 0
minimum_persons: 0
aggregation: [masking, ckks]
unattended: true
"""
ROUND_TIMEOUT_S, PHASE_TIMEOUT_S, GATHER_TIMEOUT_S = 600.0, 60.0, 30.0


@dataclass(frozen=True)
class Consortium:
    """Who takes part, and a folder for each party to copy."""

    folder: Path
    identities: dict[str, Identity]
    roster: Roster

    @property
    def names(self) -> tuple[str, ...]:
        return self.roster.names

    def furnish(self, folder: Path) -> None:
        """Copy every party's folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    def configuration(self, number: int, plan: SessionPlan) -> tuple[SessionConfiguration, tuple[bytes, ...]]:
        """Return a session and the seeds of its domain keys."""
        session = hashlib.sha256(b"world %d" % number).digest()[:16]
        seeds = tuple(domain_keys.draw_seed() for _ in range(plan.key_count))
        commitments = tuple(domain_keys.commitment(seed, session, i) for i, seed in enumerate(seeds))
        made = SessionConfiguration(
            session=session, plan=plan, roster=self.roster, key_commitments=commitments
        )
        return made, seeds


def world_plan(
    scheme: str, rounds: int, participation: Participation, domains: tuple[str, ...]
) -> SessionPlan:
    return make_plan(
        domains=domains,
        participation=participation,
        rounds=rounds,
        secure_aggregation=scheme,
        round_timeout_s=ROUND_TIMEOUT_S,
        phase_timeout_s=PHASE_TIMEOUT_S,
        gather_timeout_s=GATHER_TIMEOUT_S,
    )


def client_settings(name: str) -> ClientSettings:
    return ClientSettings(name=name, port=8443, data=Path("data"), fixed_answer_time=False)


@lru_cache(maxsize=4)
def make_consortium(institutions: int, folder: Path, domains: int = len(DOMAINS)) -> Consortium:
    """Make keys and folders for some institutions, spread over the domains, and a coordinator."""
    names = [f"clinic-{number}" for number in range(1, institutions + 1)]
    folder = folder / f"consortium-{institutions}-{domains}"
    identities: dict[str, Identity] = {}
    sealing: dict[str, SealingKey] = {}
    for name in (COORDINATOR, *names):
        identities[name], sealing[name] = PartyFolder(folder / name).create()
    entries = [
        (name, identities[name], sealing[name].public_key, i % domains) for i, name in enumerate(names)
    ]
    roster = roster_of(identities[COORDINATOR].public_key, entries)
    for name in (COORDINATOR, *names):
        PartyFolder(folder / name).approve_roster(roster)
        if name != COORDINATOR:
            (folder / name / "policy.yaml").write_text(POLICY)
    return Consortium(folder, identities, roster)


def scratch_folder() -> Path:
    """Return a folder for worlds, in memory where the system has one."""
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else None
    return Path(tempfile.mkdtemp(prefix="fedapt-world-", dir=base))
