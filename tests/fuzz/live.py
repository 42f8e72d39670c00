"""Machines in the middle of a real round, to feed one message and throw away.

A round is played once; before every message that one institution or the coordinator takes, the machine is
copied. A stage hands out fresh copies of such a copy together with the message that is due.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.harness import World
from tests.fuzz.decoders import MASKED_VALUES

INSTITUTIONS = 4
SENDER = "clinic-2"
VANISHES = "clinic-4"


@dataclass(frozen=True)
class Stage:
    """A machine that waits for ``message``; ``identity`` signs for the sender where it is ours to misuse."""

    machine: MaskingCoordinator | MaskingInstitution
    message: bytes
    identity: Identity | None

    def receive(self, data: bytes) -> MaskingCoordinator | MaskingInstitution:
        """Feed ``data`` to a fresh copy and return it."""
        machine = copied(self.machine)
        if isinstance(machine, MaskingCoordinator):
            machine.receive(SENDER, data)
        else:
            machine.receive(data)
        return machine


def copied(machine: MaskingCoordinator | MaskingInstitution) -> MaskingCoordinator | MaskingInstitution:
    """Return a copy that shares nothing the machine changes; keys cannot be copied and do not change."""
    twin = copy.copy(machine)
    for name, value in vars(machine).items():
        if isinstance(value, (dict, set, np.ndarray)):
            setattr(twin, name, value.copy())
    if isinstance(twin, MaskingInstitution) and twin._secrets is not None:
        twin._secrets = replace(
            twin._secrets, dealer=copy.copy(twin._secrets.dealer), opened=dict(twin._secrets.opened)
        )
    return twin


def play() -> Mapping[str, Stage]:
    """Play a round with one dropout and return its stages by name."""
    world, stages = World(INSTITUTIONS, length=MASKED_VALUES, minimum=2), {}
    coordinator, institution = world.coordinator, world.institutions[SENDER]
    assert isinstance(coordinator, MaskingCoordinator)
    assert isinstance(institution, MaskingInstitution)
    collect, answer = coordinator.receive, institution.receive

    def receive_at_coordinator(sender: str, payload: bytes) -> None:
        if sender == SENDER:
            before = copied(coordinator)
            vars(before).pop("receive")
            stages[f"coordinator-{coordinator.phase}"] = Stage(before, payload, world.identities[SENDER])
        collect(sender, payload)

    def receive_at_institution(payload: bytes) -> object:
        before = copied(institution)
        vars(before).pop("receive")
        stages[f"institution-{institution.state.name.lower()}"] = Stage(before, payload, None)
        return answer(payload)

    coordinator.receive = receive_at_coordinator
    institution.receive = receive_at_institution
    world.run({VANISHES: Phase.MASKED_INPUT})
    assert world.coordinator.aggregate is not None
    return stages
