"""Play a whole round with real machines and fixed secrets, and record all of it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from tests.crypto.vectors import package
from tests.crypto.vectors.recorded import RecordedInstitution, context_of, roster_of

PRIME = 2**256 + 297
SESSION = bytes(range(16))
PARTIES = ("clinic-1", "clinic-2", "clinic-3", "clinic-4")
VANISHING = "clinic-3"
"""Has one party before it that gave it a pair seed, and one after it that got one: both ways are unmasked."""


def fixed(*what: object) -> bytes:
    """Return 32 bytes that depend on nothing but ``what``."""
    return hashlib.sha256(f"fedapt-secure vectors {what}".encode()).digest()


def coefficients(count: int, *what: object) -> list[bytes]:
    """Return ``count`` field elements of Shamir's sharing, 33 bytes each."""
    wide = [fixed(*what, i, 0) + fixed(*what, i, 1) for i in range(count)]
    return [(int.from_bytes(value) % PRIME).to_bytes(33) for value in wide]


def party(index: int, name: str, threshold: int) -> dict[str, Any]:
    values = [index + 0.5, -1.25 * index, 1e-3 * (index + 1), 3.999, -4.0]
    return {
        "name": name,
        "domain_index": index,
        **{key: fixed(key, name) for key in ("identity", "sealing_root", "self_mask", "root", "seal_root")},
        "self_mask_coefficients": coefficients(threshold - 1, "self mask", name),
        "root_coefficients": coefficients(threshold - 1, "root", name),
        # the second institution's last value is out of range: it is clipped, and counted
        "update": [*values, 9.75 if index == 1 else 0.0, 2.0**-27],
    }


def whole_round() -> dict[str, Any]:
    """Play a round of four, one of which vanishes before its masked input, and record everything."""
    needed = package.thresholds(len(PARTIES))[-1]
    made: dict[str, Any] = {
        "authority_fingerprint": fixed("authority"),
        "coordinator_identity": fixed("coordinator"),
        "group_secret": fixed("group secret of the round"),
        "model": np.array([0.5, -1.0, 2.0**-149, -0.0, 3.25, -4.0, 1e-3], "<f4").tobytes(),
        "parties": [party(index, name, needed) for index, name in enumerate(PARTIES)],
    }
    roster = roster_of(made)
    made["context"] = {
        "session": SESSION,
        "round": 7,
        "attempt": 1,
        "purpose": "update",
        "configuration_hash": fixed("configuration"),
        "roster_hash": roster.hash,
        "model_hash": package.digest("model", [made["model"]]),
        "participants": len(PARTIES),
        "threshold": needed,
        "neighbours": None,
        "share_threshold": None,
        "vector_length": len(made["parties"][0]["update"]),
        "clip": 4.0,
        "group": package.group_commitment(SESSION, made["group_secret"]),
    }
    context = context_of(made)
    identity = Identity.from_private_bytes(made["coordinator_identity"])
    coordinator = MaskingCoordinator(context, roster, identity)
    machines = {name: RecordedInstitution(made, name, None) for name in PARTIES}
    answers = {name: machine.start().payload for name, machine in machines.items()}
    made["steps"] = []
    while coordinator.phase is not None:
        step: dict[str, Any] = {"phase": coordinator.phase.value, "sent": {}, "delivered": []}
        for name, payload in answers.items():
            if (name, step["phase"]) == (VANISHING, "masked_input"):
                made["late"] = {"sender": name, "payload": payload}
                continue
            coordinator.receive(name, payload)
            step["sent"][name] = payload
        deliveries = coordinator.close_phase()
        step["delivered"] = grouped(deliveries)
        received = {name: machines[name].receive(payload) for name, payload in deliveries.items()}
        answers = {name: answer.payload for name, answer in received.items() if answer is not None}
        made["steps"].append(step)
    for recorded in made["parties"]:
        recorded["saturated"] = machines[recorded["name"]].machine.saturated
    assert coordinator.aggregate is not None
    verified = machines[PARTIES[0]].machine.verified
    assert verified is not None
    survivors = package.pack_parties([PARTIES.index(name) for name in coordinator.aggregate.contributors])
    execution, transcript = coordinator._execution, coordinator._transcript
    made["derived"] = {
        "context": context.hash,
        "execution": execution,
        "transcript": transcript,
        "survivors": package.survivors_id(execution, transcript, survivors),
        "sum_hash": verified.sum_hash,
    }
    made["sum_tag"] = verified.tag
    made["next_model"] = verified.aggregate.next_model(np.frombuffer(made["model"], "<f4")).tobytes()
    made["sum_words"] = coordinator._sum.tolist()
    made["sum"] = coordinator.aggregate.total.tolist()
    made["contributors"] = list(coordinator.aggregate.contributors)
    return made


def grouped(deliveries: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return deliveries with receivers of the same bytes together."""
    found: dict[bytes, list[str]] = {}
    for name, payload in deliveries.items():
        found.setdefault(payload, []).append(name)
    return [{"to": names, "payload": payload} for payload, names in found.items()]
