"""The cases that must be refused, made from the recorded round by changing one thing each."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

from fedapt_crypto import seal
from fedapt_crypto.encoding import Message, TaggedMessage, encode
from fedapt_crypto.identity import Identity
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.secagg import signed
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.dealing import share_commitment
from fedapt_crypto.secagg.masking.records import Parcel, Record, shares_plaintext, split_records
from tests.crypto.secagg.frames import hash_of, join_masked, masked, parcels_of, split_masked, with_parcels
from tests.crypto.vectors import failing_sums, package, recorded

SHORTEST_MATCH = 12
FOREIGN = hashlib.sha256(b"a foreign identity").digest()


def change(message: Message, **fields: object) -> Any:
    return message.model_copy(update=fields)


def functions(files: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cases of single functions: both implementations must refuse them."""
    by_name = {name: files[name]["cases"] for name in files}
    split = next(c for c in by_name["shamir.json"] if c["function"] == "split")
    shares = list(zip(split["arguments"]["indices"], split["result"], strict=True))[:3]
    tree = by_name["merkle.json"][4]
    leaves, root, proof = tree["arguments"]["leaves"], tree["result"]["root"], tree["result"]["proofs"][1]
    sealed = by_name["seal.json"][1]["arguments"]
    domain = by_name["domain_keys.json"][0]["arguments"]
    opened = by_name["domain_keys.json"][1]["arguments"]
    expected = by_name["domain_keys.json"][0]["result"]
    above = (2**256 + 5).to_bytes(33)
    found: list[dict[str, Any]] = []

    def case(name: str, function: str, error: str, **arguments: object) -> None:
        found.append({"name": name, "function": function, "arguments": arguments, "error": error})

    case("truncated-share", "combine", "ValueError", shares=[*shares[:2], (3, shares[2][1][:-1])])
    prime = (2**256 + 297).to_bytes(33)
    case("share-beyond-the-field", "combine", "ValueError", shares=[*shares[:2], (3, prime)])
    case("shares-of-no-secret", "combine", "ValueError", shares=[(1, above), (2, above), (3, above)])
    about: dict[str, Any] = {"root": root, "leaf": leaves[1], "position": 1, "count": 4}
    refused = "VerificationFailed"
    case("swapped-merkle-siblings", "merkle_check", refused, **about, proof=proof[::-1])
    case("short-merkle-proof", "merkle_check", refused, **about, proof=proof[:-1])
    case("long-merkle-proof", "merkle_check", refused, **about, proof=[*proof, bytes(32)])
    case("another-position", "merkle_check", refused, **{**about, "position": 0}, proof=proof)
    case("position-beyond-the-leaves", "merkle_check", refused, **{**about, "position": 4}, proof=proof)
    inner = hashlib.sha256(b"fedapt-secure/1 merkle leaf\x00" + leaves[0]).digest() + proof[0]
    node = {"root": root, "leaf": inner, "position": 0, "count": 2, "proof": proof[1:]}
    case("node-passed-off-as-leaf", "merkle_check", refused, **node)
    info = sealed["info"]
    case("sealed-for-another-sender", "open_sealed", refused, **{**sealed, "info": [*info[:2], "x", info[3]]})
    case("sealed-to-another-key", "open_sealed", refused, **{**sealed, "root": bytes(32)})
    broken = sealed["sealed"][:-1] + bytes([sealed["sealed"][-1] ^ 1])
    case("changed-ciphertext", "open_sealed", refused, **{**sealed, "sealed": broken})
    case("empty-ciphertext", "open_sealed", refused, **{**sealed, "sealed": b""})
    other = bytes([domain["seed"][0] ^ 1]) + domain["seed"][1:]
    case("key-out-of-range", "domain_check", refused, **{**domain, "seed": other}, expected=expected)
    moved = {**domain, "key_index": domain["key_index"] + 1}
    case("seed-of-another-domain", "domain_check", refused, **moved, expected=expected)
    short = {**domain, "seed": domain["seed"][:31]}
    case("short-domain-seed", "domain_check", refused, **short, expected=expected)
    case("seed-sealed-to-another", "domain_open", refused, **{**opened, "receiver": "clinic-2"})
    field = b"\x81\xa5value"
    for name, data in {
        "trailing-byte": field + b"\x01\x00",
        "cut-short": field,
        "unsorted-fields": field + b"\x82\xa1b\x01\xa1a\x01",
        "repeated-field": b"\x82" + 2 * (field[1:] + b"\x01"),
        "wide-number": field + b"\xcc\x01",
        "wide-length": field + b"\xc5\x00\x01x",
        "extension-type": field + b"\xd4\x01\x00",
        "text-that-is-not-utf-8": field + b"\xa1\xff",
        "empty": b"",
    }.items():
        case(f"non-canonical-{name}", "decode", "MalformedMessage", data=data)
    for name, data in {
        "repeated": b"\x00\x01\x00\x01",
        "unsorted": b"\x00\x01\x00\x00",
        "stranger": b"\x00\x04",
        "half": b"\x00",
    }.items():
        case(f"party-list-{name}", "unpack_parties", "MalformedMessage", data=data, roster_size=4)
    case("no-clip-range", "fixed_encode", "ValueError", summands=4, clip=0.0, values=[])
    return [*found, *sums(files["sum_tag.json"]["cases"])]


def sums(cases: list[Any]) -> list[dict[str, Any]]:
    """Cases of sums that are not what the survivors tagged, each from one that verifies."""
    long = [each["arguments"] for each in cases if each["function"] == "sum_check_verify"][-1]
    (_, first), (rest, other) = long["runs"]
    tag, prime = int.from_bytes(long["tag"]), 2**61 - 1
    about = {key: long[key] for key in ("secret", "execution", "transcript")}
    pads = [int.from_bytes(package.sum_check_pad(**about, name=name)) for name in long["survivors"]]
    beyond = [[1, 3 * long["limit"] + 1], [rest, 0]]
    hashed = int.from_bytes(package.sum_check_tag(**about, name="", runs=beyond))
    hashed -= int.from_bytes(package.sum_check_pad(**about, name=""))

    def spelt(number: int) -> bytes:
        return (number % prime).to_bytes(8)

    found = []
    for name, change in {
        "other-value": {"runs": [[1, first - 1], [rest, other]]},
        "moved-unit": {"runs": [[1, first - 1], [1, other + 1], [rest - 1, other]]},
        "other-tag": {"tag": spelt(tag + 1)},
        "tag-beyond-the-field": {"tag": (tag + prime).to_bytes(8)},
        "nothing": {"runs": [[1 + rest, 0]], "tag": bytes(8)},
        "negated": {"runs": [[1, -first], [rest, -other]], "tag": spelt(-tag)},
        "without-pads": {"tag": spelt(tag - sum(pads))},
        "without-a-survivor": {"survivors": long["survivors"][:2]},
        "other-survivor": {"survivors": [*long["survivors"][:2], "clinic-4"]},
        "other-execution": {"execution": long["transcript"]},
        "other-transcript": {"transcript": long["execution"]},
        "other-secret": {"secret": FOREIGN},
        "value-out-of-range": {"runs": beyond, "tag": spelt(hashed + sum(pads))},
    }.items():
        arguments = {**long, **change}
        found.append({"name": f"sum-{name}", "function": "sum_check_verify", "arguments": arguments})
    doubled = {"runs": [[1, 2], [rest, 4]]}
    halves = [[[1, 0], [rest, 0]], [[1, 0], [rest, 1]], [[1, 1], [rest, 1]]]
    tags = [
        package.sum_check_tag(**about, name=name, runs=runs)
        for name, runs in zip(long["survivors"], halves, strict=True)
    ]
    twice = spelt(2 * sum(map(int.from_bytes, tags)))
    arguments = {**long, **doubled, "tag": twice}
    found.append({"name": "sum-doubled", "function": "sum_check_verify", "arguments": arguments})
    return [{**each, "error": "SumCheckFailed"} for each in found]


class Forger:
    """Makes cases for whole messages: each a genuine message of the recorded round with one change."""

    def __init__(self, round_: Mapping[str, Any]) -> None:
        self.round = round_
        self.names = [party["name"] for party in round_["parties"]]
        self.roots = {party["name"]: party["seal_root"] for party in round_["parties"]}
        self.identities = {p["name"]: Identity.from_private_bytes(p["identity"]) for p in round_["parties"]}
        self.cases: list[dict[str, Any]] = []

    def institution(
        self, name: str, after: str, message: TaggedMessage | bytes, error: str, *, aborts: bool = True
    ) -> None:
        """Add a case: clinic-1, having taken the delivery of ``after``, gets ``message``."""
        genuine = recorded.due_after(self.round, "clinic-1", after)
        place = {"institution": "clinic-1", "after": after}
        payload = message if isinstance(message, bytes) else message.to_bytes()
        self.cases.append(
            {"name": name, **place, **shortest(payload, genuine), "aborts": aborts, "error": error}
        )

    def coordinator(
        self,
        name: str,
        phase: str,
        message: TaggedMessage | bytes,
        error: str,
        *,
        sender: str = "clinic-2",
        on: str = "receive",
    ) -> None:
        """Add a case: the coordinator, collecting ``phase``, gets ``message``."""
        genuine = recorded.sent_in(self.round, phase).get(sender)
        payload = message if isinstance(message, bytes) else message.to_bytes()
        place = {"coordinator": "coordinator", "phase": phase, "sender": sender, "on": on}
        self.cases.append({"name": name, **place, **shortest(payload, genuine), "error": error})

    def signed(self, message: signed.SignedMessage, **fields: object) -> Any:
        return change(message, **fields).signed_by(self.identities[message.sender])

    def delivered(self, kind: type[Any], phase: str) -> Any:
        return kind.from_bytes(recorded.delivered_after(self.round, phase)["clinic-1"])

    def advertise(self) -> None:
        """Phase 0: another's keys, or keys of another round."""
        sent = recorded.sent_in(self.round, "advertise")
        genuine = m.Advertise.from_bytes(sent["clinic-2"])
        foreign = genuine.signed_by(Identity.from_private_bytes(FOREIGN))
        earlier = change(recorded.context_of(self.round), round=6)
        replayed = self.signed(genuine, context=earlier.hash)
        whole = self.delivered(m.AdvertiseList, "advertise")
        for name, forged, error in (
            ("wrong-roster-key", foreign, "VerificationFailed"),
            ("replayed-advertise", replayed, "ContextMismatch"),
        ):
            advertises = (whole.advertises[0], forged, *whole.advertises[2:])
            digests = b"".join(advertise.digest for advertise in advertises)
            self.institution(name, "start", change(whole, advertises=advertises, digests=digests), error)
            self.coordinator(f"{name}-to-coordinator", "advertise", forged, error)
        unlisted = change(whole, advertises=(whole.advertises[0], foreign, *whole.advertises[2:]))
        self.institution("keys-other-than-listed", "start", unlisted, "VerificationFailed")
        masked = change(whole, digests=bytes(32) + whole.digests[32:])
        self.institution("own-keys-replaced", "start", masked, "ContextMismatch")
        renamed = change(genuine, sender="clinic-1")
        self.coordinator("in-anothers-name", "advertise", renamed, "VerificationFailed")
        drawn = self.signed(genuine, neighbours=parties.pack([1, 2, 3]))
        self.coordinator("drew-itself", "advertise", drawn, "MalformedMessage")

    def share(self) -> None:
        """Phase 1: proofs, shares and records that are not what the dealer signed."""
        whole = self.delivered(m.ShareDelivery, "share")
        (header, first), *rest = parcels_of(whole)
        swapped = with_parcels(whole, [(header, replace(first, proof=first.proof[::-1])), *rest])
        self.institution("swapped-merkle-siblings-in-delivery", "advertise", swapped, "VerificationFailed")
        broken = replace(first, record=first.record[:-1] + bytes([first.record[-1] ^ 1]))
        other = with_parcels(whole, [(header, broken), *rest])
        self.institution("ciphertext-not-signed", "advertise", other, "VerificationFailed")
        # clinic-4's record for clinic-2, with its proof
        last = m.ShareMessage.from_bytes(recorded.sent_in(self.round, "share")["clinic-4"])
        table = split_records(last.records)
        elsewhere = Parcel(position=1, proof=MerkleTree(table).proof(1), record=table[1])
        anothers = with_parcels(whole, [(header, first), *rest[:-1], (rest[-1][0], elsewhere)])
        self.institution("anothers-record-with-its-proof", "advertise", anothers, "MalformedMessage")
        for name, parcels in (
            ("parcel-cut-short", whole.parcels[:-1]),
            ("bytes-after-the-parcels", whole.parcels + b"\x00"),
            ("parcel-beyond-the-records", b"\xff\xff" + whole.parcels[2:]),
        ):
            self.institution(name, "advertise", change(whole, parcels=parcels), "MalformedMessage")
        digests = whole.digests[:32] + bytes(32) + whole.digests[64:]
        self.institution(
            "header-not-in-transcript", "advertise", change(whole, digests=digests), "ContextMismatch"
        )
        self.institution(
            "anothers-share-sealed-anew", "advertise", self.sealed_anew(whole), "VerificationFailed"
        )
        dealt = m.ShareMessage.from_bytes(recorded.sent_in(self.round, "share")["clinic-2"])
        records = bytes([*dealt.records[:-1], dealt.records[-1] ^ 1])
        self.coordinator("records-not-signed", "share", change(dealt, records=records), "VerificationFailed")
        shorter = change(dealt, records=dealt.records[:-1])
        self.coordinator("record-cut-short", "share", shorter, "MalformedMessage")
        first_record = replace(Record.from_bytes(split_records(dealt.records)[0]), receiver=3).to_bytes()
        table = [first_record, *split_records(dealt.records)[1:]]
        moved = self.signed(dealt.header, records_root=MerkleTree(table).root)
        misdealt = change(dealt, header=moved, records=b"".join(table))
        self.coordinator("record-for-another", "share", misdealt, "MalformedMessage")

    def sealed_anew(self, whole: Any) -> Any:
        """A delivery in which clinic-2 seals to clinic-1, as its own, what clinic-3 dealt; all else right."""
        dealt = m.ShareMessage.from_bytes(recorded.sent_in(self.round, "share")["clinic-2"])
        (_, first), *rest = parcels_of(whole)
        ends = (dealt.header.execution, "clinic-2", "clinic-1")
        share, root_share = bytes(33), bytes(33)
        plaintext = shares_plaintext(ends[0], 2, 0, share, root_share)
        key = seal.SealingKey(self.roots["clinic-1"]).public_key
        record = replace(
            Record.from_bytes(first.record),
            self_mask_share=share_commitment("self mask", *ends, share),
            root_share=share_commitment("root", *ends, root_share),
            sealed_shares=seal.seal(key, plaintext, "secagg shares", *ends),
        ).to_bytes()
        tree = MerkleTree([record, *split_records(dealt.records)[1:]])
        header = self.signed(dealt.header, records_root=tree.root)
        parcel = Parcel(position=0, proof=tree.proof(0), record=record)
        digests = whole.digests[:32] + header.digest + whole.digests[64:]
        return with_parcels(whole, [(header, parcel), *rest], digests=digests)

    def survivors(self) -> None:
        """Phases 2 and 3: survivor sets that must not be signed, and bytes that must not be read."""
        whole = self.delivered(m.SurvivorAnnouncement, "masked_input")
        for name, packed, error in (
            ("survivors-below-threshold", parties.pack([0, 1]), "TooFewParticipants"),
            ("repeated-party", b"\x00\x00\x00\x01\x00\x01\x00\x03", "MalformedMessage"),
            ("left-out-of-survivors", parties.pack([1, 2, 3]), "ContextMismatch"),
            ("unsorted-survivors", b"\x00\x01\x00\x00\x00\x03", "MalformedMessage"),
            ("stranger-among-survivors", parties.pack([0, 1, 4]), "MalformedMessage"),
            ("half-a-survivor", whole.survivors[:-1], "MalformedMessage"),
        ):
            self.institution(name, "share", change(whole, survivors=packed), error)
        for name, field in (("another-transcript", "transcript"), ("another-execution", "execution")):
            self.institution(name, "share", change(whole, **{field: bytes(32)}), "ContextMismatch")
        genuine, fields = whole.to_bytes(), whole.model_dump()
        # b"\xc4\x20" opens 32 bytes with a length of one byte; b"\xc5\x00\x20" says the same with two
        spelled_out = genuine.replace(b"\xc4\x20", b"\xc5\x00\x20", 1)
        unsorted = bytes([genuine[0]]) + genuine[1:].replace(encode("kind") + encode("survivors"), b"", 1)
        unsorted += encode("kind") + encode("survivors")
        for name, data in (
            ("non-canonical-encoding", spelled_out),
            ("non-canonical-encoding-trailing-byte", genuine + b"\x00"),
            ("non-canonical-encoding-unsorted", unsorted),
            ("unknown-field", encode({**fields, "extra": 0})),
            ("missing-field", encode({k: v for k, v in fields.items() if k != "survivors"})),
            ("unknown-kind", encode({**fields, "kind": "survivor"})),
        ):
            self.institution(name, "share", data, "MalformedMessage", aborts=False)
        self.institution("oversized-message", "share", b"", "MalformedMessage", aborts=False)
        del self.cases[-1]["payload"]
        self.cases[-1]["repeat"] = [b"\x00", m.MAX_SHARE_MESSAGE_BYTES + 1]
        request = recorded.delivered_after(self.round, "consistency")["clinic-1"]
        self.institution("unmask-before-consistency", "share", request, "UnexpectedMessage", aborts=False)
        self.masked_inputs()
        late = self.round["late"]
        self.coordinator(
            "late-masked-input", "consistency", late["payload"], "UnexpectedMessage", sender=late["sender"]
        )
        statement = m.ConsistencySignature.from_bytes(recorded.sent_in(self.round, "consistency")["clinic-2"])
        another = self.signed(statement, survivors_hash=bytes(32))
        self.coordinator("signed-another-set", "consistency", another, "ContextMismatch")

    def masked_inputs(self) -> None:
        """Phase 2: vectors that are not what the header signs, and layouts that are not the one."""
        genuine = recorded.sent_in(self.round, "masked_input")["clinic-2"]
        header, vector = split_masked(genuine)
        identity = self.identities["clinic-2"]
        elsewhere = join_masked(self.signed(header, transcript=bytes(32)), vector)
        unsigned = change(header, vector_hash=hash_of(bytes(len(vector))))
        end = 4 + len(header.to_bytes())
        assert genuine[end] == 0
        for name, payload, error in (
            ("longer-vector", masked(header, vector + bytes(4), identity), "MalformedMessage"),
            ("shorter-vector", masked(header, vector[:-4], identity), "MalformedMessage"),
            ("masked-input-trailing-byte", genuine + b"\x00", "MalformedMessage"),
            ("masked-input-cut-short", genuine[:-1], "MalformedMessage"),
            ("masked-input-padding", genuine[:end] + b"\x01" + genuine[end + 1 :], "MalformedMessage"),
            ("masked-input-without-vector", header.to_bytes(), "MalformedMessage"),
            ("masked-input-hash", join_masked(header, bytes(len(vector))), "VerificationFailed"),
            ("input-not-signed", join_masked(unsigned, bytes(len(vector))), "VerificationFailed"),
            ("input-of-another-transcript", elsewhere, "ContextMismatch"),
        ):
            self.coordinator(name, "masked_input", payload, error)

    def unmask(self) -> None:
        """Phase 4: requests that must not be answered, and answers that do not help."""
        whole = self.delivered(m.UnmaskRequest, "consistency")
        announcement = recorded.delivered_after(self.round, "masked_input")["clinic-1"]
        two = {"signers": whole.signers[:4], "signatures": whole.signatures[:128]}
        repeated = {"signers": whole.signers[:2] * 3, "signatures": whole.signatures[:64] * 3}
        for name, fields, error in (
            ("overlapping-unmask-lists", {"dropped": parties.pack([1, 2])}, "OverlappingUnmaskLists"),
            (
                "survivor-declared-dropped",
                {"survivors": parties.pack([0, 1]), "dropped": parties.pack([2, 3])},
                "ContextMismatch",
            ),
            ("dropped-left-out", {"dropped": b""}, "ContextMismatch"),
            ("too-few-signatures", two, "TooFewParticipants"),
            ("repeated-signer", repeated, "MalformedMessage"),
            ("forged-signature", {"signatures": bytes(64) + whole.signatures[64:]}, "VerificationFailed"),
            ("signature-cut-short", {"signatures": whole.signatures[:-1]}, "MalformedMessage"),
        ):
            self.institution(name, "masked_input", change(whole, **fields), error)
        self.institution(
            "second-survivor-set", "masked_input", announcement, "UnexpectedMessage", aborts=False
        )
        self.institution("second-unmask-request", "consistency", whole, "UnexpectedMessage", aborts=False)
        revealed = m.UnmaskShares.from_bytes(recorded.sent_in(self.round, "unmask")["clinic-2"])
        # with three of four left every share is needed: one that is no share leaves too few
        shorter = self.signed(revealed, self_mask_shares=revealed.self_mask_shares[:-1])
        self.coordinator("truncated-share-revealed", "unmask", shorter, "RoundAborted", on="close")
        false = self.signed(revealed, root_shares=bytes(33))
        self.coordinator("false-share-revealed", "unmask", false, "RoundAborted", on="close")
        unasked = self.signed(revealed, dropped=b"", root_shares=b"")
        self.coordinator("other-shares-than-asked-for", "unmask", unasked, "MalformedMessage")


def shortest(payload: bytes, genuine: bytes | None) -> dict[str, Any]:
    """Return a payload whole or, where the recorded message is longer, as what it has elsewhere."""
    if genuine is None or len(genuine) < 1024:
        return {"payload": payload}
    blocks = SequenceMatcher(None, genuine, payload, autojunk=False).get_matching_blocks()
    replaced, at, to = [], 0, 0
    for block in blocks:
        if 0 < block.size < SHORTEST_MATCH:
            continue  # bytes that are the same by chance
        if (at, to) != (block.a, block.b):
            replaced.append([at, block.a - at, payload[to : block.b]])
        at, to = block.a + block.size, block.b + block.size
    return {"replace": replaced}


def failing(round_: Mapping[str, Any], files: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all cases, each with a hash of itself."""
    forger = Forger(round_)
    forger.advertise()
    forger.share()
    forger.survivors()
    forger.unmask()
    failing_sums.announced(forger)
    cases = [*functions(files), *failing_sums.groups(files["group_secret.json"]["cases"]), *forger.cases]
    assert len({case["name"] for case in cases}) == len(cases)
    return [{**case, "sha256": hashlib.sha256(encode(case)).digest()} for case in cases]
