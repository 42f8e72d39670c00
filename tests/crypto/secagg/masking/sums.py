"""Rounds that are played until the coordinator has announced the sum and no institution has it yet."""

import copy
from collections.abc import Mapping

import numpy as np

from fedapt_crypto.secagg.masking.dealing import Dealer
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.masking.messages import MaskedInput
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, announce
from fedapt_crypto.secagg.scheme import Outgoing, Phase
from fedapt_crypto.sum_tag import SumCheck
from tests.crypto.secagg.frames import split_masked
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, group_of


class Announced:
    """A round in which some are late with their masked inputs, up to the announced sum.

    Attributes:
        world: Its parties; institutions that were there wait for the sum.
        late: Name to the masked input that came too late.
        dealers: Name to what each party drew, before it forgot it.
        message: What the coordinator announced to all survivors.
    """

    def __init__(self, world: World, late: tuple[str, ...] = ()) -> None:
        self.world = world
        world.sent_to_coordinator = []
        self.late: dict[str, bytes] = {}
        self.dealers: dict[str, Dealer] = {}
        announced: dict[str, bytes] = {}

        def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes | None:
            if phase is Phase.SHARE:
                self.dealers[receiver] = world.institutions[receiver]._secrets.dealer
                if receiver in late:
                    self.late[receiver] = world.institutions[receiver].receive(payload).payload
                    return None
            if phase is Phase.UNMASK:
                announced[receiver] = payload
                return None
            return payload

        world.run(tamper=tamper)
        self.survivors = tuple(name for name in world.roster.names if name not in late)
        assert tuple(announced) == self.survivors == world.coordinator.contributors
        assert len(set(announced.values())) == 1
        self.payload = announced[self.survivors[0]]
        self.message = SumAnnouncement.from_bytes(self.payload)
        self.execution, self.transcript = self.message.execution, world.coordinator._transcript

    def waiting(self, name: str = "clinic-1") -> MaskingInstitution:
        """A copy of an institution that waits for the sum: it can be given any."""
        machine = copy.copy(self.world.institutions[name])
        assert isinstance(machine, MaskingInstitution)
        return machine

    def check(self) -> SumCheck:
        """What every institution checks sums with, and who else knows the group secret."""
        group = group_of(self.world.context)
        return group.sum_check(self.execution, self.transcript, length=self.world.length)

    def encoded(self, name: str) -> np.ndarray:
        """What an institution contributed, as words."""
        return self.world.context.fixed_point.encode(self.world.updates[name])[0]

    def tag(self, name: str) -> int:
        """The true tag of what it contributed."""
        return self.check().tag(name, self.encoded(name))

    @property
    def total(self) -> np.ndarray:
        """X as announced, signed integers."""
        return np.frombuffer(self.message.total, "<i4").astype(np.int64)

    @property
    def sum_tag(self) -> int:
        """T as announced."""
        return int.from_bytes(self.message.sum_tag)

    def stated(self, total: object, tag: int, **about: bytes) -> bytes:
        """Another sum of this execution under the coordinator's own signature."""
        words = np.array(total, np.int64).astype(np.int32).view(np.uint32)
        fields = {"execution": self.execution, "survivors_hash": self.message.survivors_hash} | about
        return announce(COORDINATOR_IDENTITY, fields["execution"], fields["survivors_hash"], words, tag)

    def headers(self) -> Mapping[str, MaskedInput]:
        """The headers of all masked inputs, late ones too."""
        sent: list[tuple[str, Outgoing]] = self.world.sent_to_coordinator
        payloads = {name: out.payload for name, out in sent if out.phase is Phase.MASKED_INPUT}
        return {name: split_masked(payload)[0] for name, payload in {**payloads, **self.late}.items()}
