"""Reading and writing recorded vectors, and machines that draw what was recorded instead of randomness."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from fedapt_crypto import seal, shamir
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking import dealing
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.masking.records import Record, split_records
from fedapt_crypto.secagg.scheme import Outgoing, RoundContext
from tests.support import rosters

FOLDER = Path(__file__).parents[3] / "crypto" / "vectors"
PHASES = ("advertise", "share", "masked_input", "consistency", "unmask")


def load(name: str) -> dict[str, Any]:
    """Return a file of vectors, with every "0x..." turned into bytes."""
    return thaw(json.loads((FOLDER / name).read_text(encoding="utf-8")))


def thaw(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return bytes.fromhex(value[2:]) if isinstance(value, str) and value.startswith("0x") else value


def freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: freeze(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [freeze(item) for item in value]
    return "0x" + value.hex() if isinstance(value, bytes) else value


class RecordedSource:
    """Stands where the package's modules have the standard library's ``secrets``."""

    def __init__(self, strings: Sequence[bytes] = (), numbers: Sequence[bytes] = ()) -> None:
        self.strings = list(strings)
        self.numbers = list(numbers)

    def token_bytes(self, size: int) -> bytes:
        value = self.strings.pop(0)
        assert len(value) == size
        return value

    def randbelow(self, bound: int) -> int:
        value = int.from_bytes(self.numbers.pop(0))
        assert value < bound
        return value


def roster_of(round_: Mapping[str, Any]) -> Roster:
    coordinator = Identity.from_private_bytes(round_["coordinator_identity"])
    entries = [
        (
            party["name"],
            Identity.from_private_bytes(party["identity"]),
            SealingKey(party["sealing_root"]).public_key,
            party["domain_index"],
        )
        for party in round_["parties"]
    ]
    return rosters.roster_of(coordinator.public_key, entries, round_["authority_fingerprint"])


def context_of(round_: Mapping[str, Any]) -> RoundContext:
    return RoundContext(**round_["context"])


def group_of(round_: Mapping[str, Any]) -> GroupSecret:
    return GroupSecret(round_["context"]["session"], round_["group_secret"])


class RecordedInstitution:
    """A real institution with recorded secrets, coefficients and, where there are any, ciphertexts.

    Args:
        round_: The recorded round.
        name: Which of its parties.
        share: The share message it sent, whose ciphertexts it repeats, since HPKE draws its randomness
            itself and would seal anew; ``None`` to seal anew.
    """

    def __init__(self, round_: Mapping[str, Any], name: str, share: bytes | None) -> None:
        party = next(party for party in round_["parties"] if party["name"] == name)
        roster = roster_of(round_)
        self._sealed = None if share is None else self._ciphertexts(roster, name, share)
        self._source = RecordedSource(
            [party["self_mask"], party["root"], party["seal_root"]],
            [*party["self_mask_coefficients"], *party["root_coefficients"]],
        )
        with self._recorded():
            self.machine = MaskingInstitution(
                context_of(round_),
                roster,
                name,
                Identity.from_private_bytes(party["identity"]),
                np.array(party["update"]),
                group=group_of(round_),
            )

    def start(self) -> Outgoing:
        return self.machine.start()

    def receive(self, payload: bytes) -> Outgoing | None:
        with self._recorded():
            return self.machine.receive(payload)

    @staticmethod
    def _ciphertexts(roster: Roster, dealer: str, share: bytes) -> dict[tuple[object, ...], bytes]:
        found: dict[tuple[object, ...], bytes] = {}
        message = m.ShareMessage.from_bytes(share)
        for receiver, data in zip(roster.names, split_records(message.records), strict=True):
            ends, record = (message.header.execution, dealer, receiver), Record.from_bytes(data)
            found["secagg shares", *ends] = record.sealed_shares
            found["secagg pair seed", *ends] = record.sealed_pair_seed
        return found

    @contextmanager
    def _recorded(self):
        with ExitStack() as stack:
            stack.enter_context(patch.object(dealing, "operating_system", self._source))
            stack.enter_context(patch.object(seal, "secrets", self._source))
            stack.enter_context(patch.object(shamir, "secrets", self._source))
            if self._sealed is not None:
                repeat = self._sealed.__getitem__
                stack.enter_context(patch.object(dealing, "seal", lambda key, text, *info: repeat(info)))
            yield


def sent_in(round_: Mapping[str, Any], phase: str) -> dict[str, bytes]:
    return round_["steps"][PHASES.index(phase)]["sent"]


def delivered_after(round_: Mapping[str, Any], phase: str) -> dict[str, bytes]:
    """Return what the coordinator sent to whom when the phase closed."""
    deliveries = round_["steps"][PHASES.index(phase)]["delivered"]
    return {name: delivery["payload"] for delivery in deliveries for name in delivery["to"]}


def due_after(round_: Mapping[str, Any], name: str, after: str) -> bytes | None:
    """Return what an institution gets next that has taken the delivery of phase ``after``, if anything."""
    following = [*PHASES, None][0 if after == "start" else PHASES.index(after) + 1]
    return None if following is None else delivered_after(round_, following).get(name)


def institution_after(round_: Mapping[str, Any], name: str, after: str) -> RecordedInstitution:
    """Return an institution that has taken all recorded deliveries up to that of phase ``after``."""
    party = RecordedInstitution(round_, name, sent_in(round_, "share")[name])
    party.start()
    if after != "start":
        for phase in PHASES[: PHASES.index(after) + 1]:
            party.receive(delivered_after(round_, phase)[name])
    return party


def coordinator_in(round_: Mapping[str, Any], phase: str) -> MaskingCoordinator:
    """Return a coordinator that has collected and closed every phase before ``phase``."""
    identity = Identity.from_private_bytes(round_["coordinator_identity"])
    coordinator = MaskingCoordinator(context_of(round_), roster_of(round_), identity)
    for earlier in PHASES[: PHASES.index(phase)]:
        for name, payload in sent_in(round_, earlier).items():
            coordinator.receive(name, payload)
        assert coordinator.close_phase() == delivered_after(round_, earlier)
    return coordinator
