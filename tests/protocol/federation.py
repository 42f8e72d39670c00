"""A federation in memory: real session machines on both sides, a queue in place of sockets.

Training is replaced by a fixed update for each institution and round, chosen so that a wrong sum shows
at once; everything else is the code that runs in a deployment.
"""

import copy
import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fedapt_client.books.bodies import ended_fields
from fedapt_client.session import actions
from fedapt_client.session import machine as client
from fedapt_client.session.own_model import UNRESOLVED, VERIFIED, PastRounds
from fedapt_client.session.requirements import Requirements
from fedapt_client.session.states import State as ClientState
from fedapt_crypto import domain_keys
from fedapt_crypto.errors import ContextMismatch, PeerError
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import groups, registry
from fedapt_crypto.secagg.ckks.journal import MemoryJournal
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.membership.templates import TINY_WEIGHTS
from fedapt_server.session import actions as server_actions
from fedapt_server.session import machine as server
from fedapt_server.session.progress import Progress
from tests.protocol.memory_log import MemoryLog
from tests.support.rosters import roster_of

DOMAINS = ("ink", "chalk")


def make_plan(**changes: object) -> SessionPlan:
    fields = {
        "class_names": ("zero", "one"),
        "domains": DOMAINS,
        "zero_shot_template": "a photo of a {}",
        "model": "tiny",
        "pretrained": None,
        "weight_hash": "0" * 64,
        "model_identity": TINY_WEIGHTS["model_identity"],
        "text_width": 4,
        "feature_size": 3,
        "context_tokens": 2,
        "class_specific": True,
        "rounds": 3,
        "local_steps": 1,
        "sample_rate": 0.5,
        "learning_rate": 0.5,
        "momentum": 0.9,
        "max_grad_norm": 1.0,
        "differential_privacy": True,
        "secure_aggregation": registry.MASKING,
        "clip": 4.0,
        "temperature": 0.01,
        "initial_seed": 0,
        "round_timeout_s": 600.0,
        "phase_timeout_s": 60.0,
        "gather_timeout_s": 30.0,
        "return_timeout_s": 3600.0,
    }
    return SessionPlan.model_validate(fields | changes)


@dataclass
class Party:
    """One institution with its shell's bookkeeping."""

    name: str
    machine: client.InstitutionSession
    connected: bool = False
    vanish_at: set[tuple[int, Phase]] = field(default_factory=set)
    joined: list[tuple[int, int]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    concluded: client.Conclude | None = None
    budget_rounds: int = 10**9
    restarts: bool = False
    """Whether vanishing costs it its memory, as a power cut does."""
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    past: PastRounds = field(default_factory=PastRounds)
    """What is on record here of the session's rounds."""
    group: bytes | None = None
    """Commitment to the group secret that is on record here."""


class Federation:
    """``n`` institutions and a coordinator under one scheme."""

    def __init__(self, n: int = 5, *, requirements: Requirements | None = None, **plan: object) -> None:
        self.plan = make_plan(**plan)
        self.coordinator_identity = Identity.generate()
        identities = {f"clinic-{i}": Identity.generate() for i in range(1, n + 1)}
        sealing = {name: SealingKey.fresh() for name in identities}
        self.identities, self.sealing = identities, sealing
        entries = [
            (name, identities[name], sealing[name].public_key, i % len(self.plan.domains))
            for i, name in enumerate(identities)
        ]
        self.roster = roster_of(self.coordinator_identity.public_key, entries)
        self.seeds = tuple(domain_keys.draw_seed() for _ in range(self.plan.key_count))
        self.requirements = requirements or Requirements(
            differential_privacy=True,
            aggregation=(registry.MASKING, registry.CKKS),
            minimum_participants=2,
        )
        self.logs = {name: MemoryLog(name, identity) for name, identity in identities.items()}
        self.logs[COORDINATOR] = MemoryLog(COORDINATOR, self.coordinator_identity)
        self._begin(bytes(range(16)))

    def next_session(self, session: bytes) -> "Federation":
        """Another session of the same parties, with the logs that they have by now."""
        following = copy.copy(self)
        following._begin(session)
        return following

    def _begin(self, session: bytes) -> None:
        self.configuration = SessionConfiguration(
            session=session,
            plan=self.plan,
            roster=self.roster,
            key_commitments=tuple(
                domain_keys.commitment(seed, session, i) for i, seed in enumerate(self.seeds)
            ),
        )
        self.coordinator = server.CoordinatorSession(
            self.configuration,
            self.seeds,
            self.coordinator_identity,
            self.logs[COORDINATOR].highest_heads(),
        )
        self.parties = {name: Party(name, self.machine(name)) for name in self.identities}
        self.log: list[server_actions.Log] = []
        self.kept: list[Progress] = []
        self.received_by_coordinator: list[tuple[str, bytes]] = []
        self.timer: float | None = None
        self.ended = False
        self._to_institutions: deque[tuple[str, bytes]] = deque()
        self._to_reconnect: deque[str] = deque()
        self.tamper: Callable[[str, bytes], bytes] = lambda name, data: data

    def machine(self, name: str) -> client.InstitutionSession:
        """An institution that has just started."""
        return client.InstitutionSession(
            name,
            self.identities[name],
            self.sealing[name],
            self.roster,
            self.requirements,
            self.logs[name].highest_heads(),
            past=lambda configuration: dataclasses.replace(self.parties[name].past, noted=self._noted(name)),
        )

    def _noted(self, name: str) -> frozenset[tuple[str, int, int]]:
        """What an institution's log has on sums."""
        return frozenset(
            (kind, body["round"], body["attempt"])
            for kind in (VERIFIED, UNRESOLVED)
            for body in self.logs[name].bodies(kind)
            if body["session"] == self.configuration.session.hex()
        )

    @property
    def _group_arguments(self) -> tuple:
        configuration = self.configuration
        return (
            configuration.plan.secure_aggregation,
            configuration.session,
            configuration.hash,
            self.roster,
        )

    def update_of(self, name: str, round_number: int) -> np.ndarray:
        index = list(self.parties).index(name)
        rng = np.random.default_rng([index, round_number])
        return rng.normal(0, 0.1, self.configuration.plan.shape.size).astype(np.float32)

    def run(self) -> None:
        """Play until nothing is left to do; the timer fires when all wait."""
        self._server(self.coordinator.start())
        for name in self.parties:
            self.connect(name)
        self.play()

    def play(self, *, timers: bool = True) -> None:
        """Deliver what is on its way; the timer fires when all wait, unless ``timers`` is off."""
        for _ in range(100_000):
            if self._to_institutions:
                self._deliver(*self._to_institutions.popleft())
            elif self._to_reconnect:
                self.connect(self._to_reconnect.popleft())
            elif timers and self.timer is not None and not self.ended:
                self.timer = None
                self._server(self.coordinator.timeout())
            else:
                return
        raise AssertionError("the federation does not come to rest")

    def connect(self, name: str) -> None:
        party = self.parties[name]
        if party.machine.state is ClientState.ENDED or self.ended:
            return
        party.connected = True
        party.machine.connected()  # the greeting is the I/O shell's business at the coordinator
        self._server(self.coordinator.connected(name))

    def restart_coordinator(self) -> None:
        """Let the coordinator go on from what it has kept; who was connected has to come again."""
        for party in self.parties.values():
            party.connected = False
        self._to_institutions.clear()
        self.timer = None
        self.coordinator = server.CoordinatorSession(
            self.configuration,
            self.seeds,
            self.coordinator_identity,
            self.logs[COORDINATOR].highest_heads(),
            self.kept[-1],
        )
        ends = self.logs[COORDINATOR].bodies("round_ended")
        self._server(self.coordinator.start((ends[-1]["round"], ends[-1]["attempt"]) if ends else None))

    def disconnect(self, name: str) -> None:
        party = self.parties[name]
        party.connected = False
        self._to_institutions = deque(item for item in self._to_institutions if item[0] != name)
        self._server(self.coordinator.disconnected(name))

    def _server(self, actions: list[server_actions.Action]) -> None:
        for action in actions:
            match action:
                case server_actions.SendTo():
                    self._to_institutions.append((action.name, action.data))
                case server_actions.Log():
                    self.log.append(action)
                    self.logs[COORDINATOR].write(action.type, action.body)
                case server_actions.Keep():
                    self.kept.append(action.progress)
                case server_actions.TakeHead():
                    self._server(action.then(self.logs[COORDINATOR].head()))
                case server_actions.CheckLog():
                    self.logs[COORDINATOR].check_holds(action.heads)
                case server_actions.SetTimer():
                    self.timer = action.seconds
                case server_actions.End():
                    self.ended = True

    def _deliver(self, name: str, data: bytes) -> None:
        party = self.parties[name]
        if not party.connected or party.machine.state is ClientState.ENDED:
            return
        self._institution(party, party.machine.receive(self.tamper(name, data)))

    def _institution(self, party: Party, todo: list[client.Action]) -> None:
        log = self.logs[party.name]
        for action in todo:
            match action:
                case actions.Log():
                    log.write(action.type, action.body)
                case actions.TakeHead():
                    self._institution(party, action.then(log.head()))
                    if not party.connected:
                        return
                case actions.CheckLog():
                    log.check_holds(action.heads)
                case client.Send():
                    key = (action.round_number, action.phase)
                    if key in party.vanish_at:
                        party.vanish_at.discard(key)
                        self._to_reconnect.append(party.name)
                        if party.restarts:
                            party.machine = self.machine(party.name)
                        self.disconnect(party.name)
                        return
                    data = action.message.to_bytes()
                    self.received_by_coordinator.append((party.name, data))
                    self._server(self.coordinator.receive(party.name, data))
                case client.Prepare():
                    self._institution(party, party.machine.prepared())
                case actions.MakeGroup():
                    if party.group is not None:
                        error = ContextMismatch("a group secret is on record")
                        self._institution(party, party.machine.broken_off(error))
                        continue
                    offer = groups.make_offer(
                        *self._group_arguments,
                        party.name,
                        self.identities[party.name],
                        decryptions=self.configuration.decryptions,
                    )
                    self._institution(party, party.machine.group_made(offer))
                case actions.OpenGroup():
                    scheme, *arguments = self._group_arguments
                    try:
                        group = groups.open_part(
                            scheme,
                            action.payload,
                            *arguments,
                            party.name,
                            self.sealing[party.name],
                            decryptions=self.configuration.decryptions,
                            journal=party.journal,
                        )
                        if party.group not in (None, group.commitment):
                            raise ContextMismatch("another group secret is on record")
                    except PeerError as error:
                        self._institution(party, party.machine.broken_off(error))
                        continue
                    party.group = group.commitment
                    self._institution(party, party.machine.group_opened(group))
                case client.Quit():
                    party.refused.append(f"quit: {type(action.error).__name__}")
                case client.Join() if action.context.round in party.released:
                    self._institution(party, party.machine.declined(Reason.ALREADY_RELEASED, final=False))
                    return
                case client.Join():
                    about = (action.context.round, action.context.attempt)
                    party.joined.append(about)
                    party.past = dataclasses.replace(party.past, newest=about)
                    log.write("round_joined", {"round": action.context.round})
                case client.Train():
                    if action.round_number > party.budget_rounds:
                        self._institution(party, party.machine.declined(Reason.BUDGET_SPENT, final=True))
                    else:
                        update = self.update_of(party.name, action.round_number)
                        self._institution(party, party.machine.trained(update))
                case actions.RecordOpening():
                    openings = (*party.past.openings, action.opening)
                    party.past = dataclasses.replace(party.past, openings=openings)
                case actions.Adopt():
                    party.past = dataclasses.replace(party.past, kept=action.kept, stated=action.stated)
                case actions.RecordRelease():
                    party.released.append(action.context.round)
                    log.write("released", {"round": action.context.round})
                case client.RoundOver():
                    party.ended.append(action.end.status)
                    log.write("round_ended", ended_fields(action))
                case client.Refused():
                    party.refused.append(type(action.error).__name__)
                case actions.Unfinished():
                    self._institution(party, party.machine.concluded(None))
                case client.Conclude():
                    party.concluded = action
                    self._institution(party, party.machine.concluded(bytes(32)))

    def entries(self, kind: str) -> list[dict]:
        return [entry.body for entry in self.log if entry.type == kind]
