"""What must be refused of announced sums and of group secrets, each a genuine one with one change."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedapt_crypto.identity import Identity
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.secagg.group_secret import GroupSecretPart
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, announce
from fedapt_crypto.sum_tag import PRIME
from tests.crypto.secagg.frames import join_masked, masked, split_masked
from tests.crypto.vectors import make_group, package, recorded
from tests.crypto.vectors.make_round import fixed

if TYPE_CHECKING:
    from tests.crypto.vectors.failing_cases import Forger

REFUSED, MALFORMED, OTHER = "VerificationFailed", "MalformedMessage", "ContextMismatch"
NO_SUM = "SumCheckFailed"
FOREIGN = hashlib.sha256(b"a foreign identity").digest()


def announced(forger: "Forger") -> None:
    """After the last phase: sums that are not the survivors', and tags that are none."""
    round_ = forger.round
    whole = forger.delivered(SumAnnouncement, "unmask")
    coordinator = Identity.from_private_bytes(round_["coordinator_identity"])
    values, tag = np.array(round_["sum_words"], np.uint32), int.from_bytes(round_["sum_tag"])
    about = (whole.execution, whole.survivors_hash)

    def stated(words: Sequence[int], number: int, by: Identity = coordinator) -> bytes:
        return announce(by, *about, np.array(words, np.uint32), number)

    fewer, fewer_tag = without_one(round_, about[0])
    negated, doubled = -values.astype(np.int64) % 2**32, 2 * values.astype(np.int64) % 2**32
    set_of_all = package.survivors_id(
        about[0], round_["derived"]["transcript"], package.pack_parties(range(4))
    )
    foreign = Identity.from_private_bytes(FOREIGN)
    first = values + (np.arange(values.size) == 0).astype(np.uint32)
    for name, payload, error in (
        ("sum-forged", stated(first, tag), NO_SUM),
        ("tag-forged", stated(values, (tag + 1) % PRIME), NO_SUM),
        ("sum-nothing", stated(0 * values, 0), NO_SUM),
        ("sum-negated", stated(negated, -tag % PRIME), NO_SUM),
        ("sum-doubled", stated(doubled, 2 * tag % PRIME), NO_SUM),
        ("sum-of-fewer", stated(fewer, fewer_tag), NO_SUM),
        ("sum-of-another-set", announce(coordinator, about[0], set_of_all, values, tag), OTHER),
        ("sum-of-another-execution", announce(coordinator, bytes(32), about[1], values, tag), OTHER),
        ("sum-unsigned", whole.model_copy(update={"signature": bytes(64)}).to_bytes(), REFUSED),
        ("sum-signed-by-another", stated(values, tag, foreign), REFUSED),
        ("tag-beyond-the-field", stated(values, tag + PRIME), MALFORMED),
        ("sum-longer", stated([*values, 0], tag), MALFORMED),
        ("sum-shorter", stated(values[:-1], tag), MALFORMED),
    ):
        forger.institution(f"announced-{name}", "consistency", payload, error)
    genuine, unexpected = whole.to_bytes(), "UnexpectedMessage"
    forger.institution("announced-sum-before-shares", "masked_input", genuine, unexpected, aborts=False)
    forger.institution("announced-second-sum", "unmask", stated(first, tag), unexpected, aborts=False)
    header, vector = split_masked(recorded.sent_in(round_, "masked_input")["clinic-2"])
    beyond = header.model_copy(update={"masked_tag": PRIME.to_bytes(8)})
    changed = header.model_copy(update={"masked_tag": bytes(8)})
    identity = forger.identities["clinic-2"]
    for name, payload, error in (
        ("masked-tag-beyond-the-field", masked(beyond, vector, identity), MALFORMED),
        ("masked-tag-not-signed", join_masked(changed, vector), REFUSED),
    ):
        forger.coordinator(name, "masked_input", payload, error)


def without_one(round_: Any, execution: bytes) -> tuple[list[int], int]:
    """Return what the sum and its tag would be without the last survivor."""
    context = recorded.context_of(round_)
    transcript = round_["derived"]["transcript"]
    check = recorded.group_of(round_).sum_check(execution, transcript, length=context.vector_length)
    updates = {party["name"]: np.array(party["update"]) for party in round_["parties"]}
    encoded = {name: context.fixed_point.encode(updates[name])[0] for name in round_["contributors"][:-1]}
    total = sum(words.view(np.int32).astype(np.int64) for words in encoded.values()) % 2**32
    return total.tolist(), sum(check.tag(name, words) for name, words in encoded.items()) % PRIME


def groups(cases: list[Any]) -> list[dict[str, Any]]:
    """Parts of a group secret that a member must not open; both implementations must refuse them."""
    about = next(each["arguments"] for each in cases if each["function"] == "group_open")
    boxes = next(each["arguments"] for each in cases if each["function"] == "group_offer")["boxes"]
    genuine = GroupSecretPart.from_bytes(about["payload"])
    maker, own, last = Identity.from_private_bytes(fixed("group maker")), make_group.RECEIVER, "clinic-5"

    def part(identity: Identity = maker, box: bytes | None = None, **fields: object) -> bytes:
        """A part that its maker signed so; a box of its own is under the signed root."""
        if box is not None:
            tree = MerkleTree([*boxes[:own], box])
            fields = {"boxes_root": tree.root, **fields}
        header = genuine.header.model_copy(update=fields).signed_by(identity)
        changes: dict[str, object] = {"header": header}
        if box is not None:
            changes |= {"box": box}
        return genuine.model_copy(update=changes).to_bytes()

    def changed(**fields: object) -> bytes:
        return genuine.model_copy(update=fields).to_bytes()

    foreign, elsewhere = Identity.from_private_bytes(FOREIGN), bytes(16)
    found = {
        "of-another-session": (part(session=elsewhere), OTHER),
        "of-another-configuration": (part(configuration_hash=bytes(32)), OTHER),
        "signed-by-another": (part(foreign), REFUSED),
        "from-a-stranger": (part(sender="clinic-9"), REFUSED),
        "boxes-swapped": (changed(box=boxes[own - 1]), REFUSED),
        "other-boxes-root": (part(boxes_root=bytes(32)), REFUSED),
        "proof-cut-short": (changed(proof=genuine.proof[:-1]), MALFORMED),
        "proof-too-long": (changed(proof=genuine.proof + bytes(32)), MALFORMED),
        "box-cut-short": (changed(box=genuine.box[:-1]), MALFORMED),
        "other-attachment": (changed(attachment=b"attacked"), REFUSED),
        "other-than-committed-to": (part(box=make_group.box(own, bytes(32))), REFUSED),
        "other-commitment": (part(commitment=bytes(32)), REFUSED),
        "sealed-for-another": (part(box=make_group.box(own, receiver="clinic-1")), REFUSED),
        "sealed-by-another": (part(box=make_group.box(own, maker="clinic-1")), REFUSED),
        "sealed-to-another-key": (part(box=make_group.box(0, receiver=last)), REFUSED),
        "with-an-unknown-field": (with_field(about["payload"]), MALFORMED),
    }
    return [
        {
            "name": f"group-secret-{name}",
            "function": "group_open",
            "arguments": {**about, "payload": payload},
            "error": error,
        }
        for name, (payload, error) in found.items()
    ]


def with_field(payload: bytes) -> bytes:
    fields = package.decode(b"\x81\xa5value" + payload)["value"]
    return package.encode({**fields, "extra": 0})
