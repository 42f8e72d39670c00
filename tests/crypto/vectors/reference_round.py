"""A whole recorded round once more, from the parties' secrets to the sum, with the reference's primitives.

Everything is computed from what the parties put in (identities, seeds, roots, coefficients, updates) and
compared with every recorded message, byte for byte. Only ciphertexts are taken as recorded, because HPKE
draws its randomness itself: they are opened and must hold what was computed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tests.crypto.vectors import reference as ref

HOLDER, PAIR, OWN = 1, 2, 4
SEALED = {"shares": 1136 + 37 + 66, "pair seed": 1136 + 37 + 32}
"""Kind of plaintext to length of its ciphertext: what HPKE adds, what names execution and ends, content."""


def vector_hash(vector: bytes) -> bytes:
    chunks = [vector[start : start + 2**20] for start in range(0, len(vector), 2**20)]
    leaves = [hashlib.sha256(b"fedapt-secure/1 vector chunk\x00" + chunk).digest() for chunk in chunks]
    return ref.digest("secagg vector", [len(vector), b"".join(leaves)])


def framed(header: bytes, vector: bytes) -> bytes:
    start = len(header).to_bytes(4) + header
    while len(start) % 16:
        start += b"\x00"
    return start + vector


def signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


class ReferenceRound:
    """One recorded round on a full graph; parties are roster indices.

    Attributes:
        expected: What was recorded.
        execution, transcript: The identifiers, once their phase is over.
        shares: Kind of secret, then owner, then holder, to share.
        tables: Dealer to its records, in roster order.
    """

    def __init__(self, expected: Mapping[str, Any]) -> None:
        self.expected = expected
        self.parties = expected["parties"]
        self.names = [party["name"] for party in self.parties]
        self.everyone = range(len(self.names))
        self.context = ref.digest("round context", [ref.encode(expected["context"])])
        self.execution = self.transcript = b""
        self.shares: dict[str, list[list[bytes]]] = {}
        self.tables: list[list[bytes]] = []
        self.headers: list[dict[str, Any]] = []
        self.sealed: list[list[dict[str, bytes]]] = []

    def run(self) -> None:
        """Recompute and compare the round.

        Raises:
            AssertionError: Where something is not what was recorded.
        """
        self.check_context()
        self.advertise()
        self.share()
        inputs = self.masked_inputs()
        survivors = self.consistency()
        self.unmask(inputs, survivors)

    def check_context(self) -> None:
        coordinator = ref.identity_key(self.expected["coordinator_identity"])
        authority = self.expected["authority_fingerprint"]
        members = [self.entry(party, authority, coordinator) for party in self.parties]
        roster = ref.encode(
            {"authority_fingerprint": authority, "coordinator_key": coordinator, "members": members}
        )
        context = self.expected["context"]
        assert context["roster_hash"] == ref.digest("roster", [roster])
        assert context["participants"] == len(self.names)
        assert context["threshold"] == ref.thresholds(len(self.names))[-1]
        secret = self.expected["group_secret"]
        assert context["group"] == ref.digest("group commitment", [context["session"], secret])
        assert context["model_hash"] == ref.digest("model", [self.expected["model"]])
        assert self.expected["derived"]["context"] == self.context

    @staticmethod
    def entry(party: dict[str, Any], authority: bytes, coordinator: bytes) -> dict[str, Any]:
        """Return a member of the roster, with its own signature on all but the domain."""
        fields = {
            "name": party["name"],
            "identity_key": ref.identity_key(party["identity"]),
            "sealing_key": ref.sealing_key(party["sealing_root"]),
        }
        parts = [authority, hashlib.sha256(coordinator).digest(), *fields.values()]
        signature = ref.sign(party["identity"], "roster entry", parts)
        return fields | {"domain_index": party["domain_index"], "entry_signature": signature}

    def signed(self, index: int, kind: str, **fields: object) -> dict[str, Any]:
        message = {"kind": kind, "sender": self.names[index], **fields}
        signature = ref.sign(self.parties[index]["identity"], f"secagg {kind}", [ref.encode(message)])
        return {**message, "signature": signature}

    def check_step(
        self,
        phase: int,
        name: str,
        sent: Mapping[int, Mapping[str, Any] | bytes],
        delivered: Mapping[int, Mapping[str, Any]],
    ) -> None:
        step = self.expected["steps"][phase]
        assert step["phase"] == name
        assert step["sent"] == {
            self.names[i]: message if isinstance(message, bytes) else ref.encode(message)
            for i, message in sent.items()
        }
        recorded = {to: delivery["payload"] for delivery in step["delivered"] for to in delivery["to"]}
        assert recorded == {self.names[i]: ref.encode(message) for i, message in delivered.items()}

    def advertise(self) -> None:
        messages = {
            i: self.signed(
                i,
                "advertise",
                context=self.context,
                seal_key=ref.sealing_key(party["seal_root"]),
                mask_key=ref.mask_key(party["root"], self.context),
                neighbours=ref.pack_parties([j for j in self.everyone if j != i]),
            )
            for i, party in enumerate(self.parties)
        }
        answer = {
            "kind": "advertise list",
            "participants": ref.pack_parties(self.everyone),
            "digests": b"".join(hashlib.sha256(ref.encode(messages[i])).digest() for i in self.everyone),
            "advertises": [messages[i] for i in self.everyone],
        }
        self.execution = ref.execution_id(self.context, answer["participants"], answer["digests"])
        assert self.expected["derived"]["execution"] == self.execution
        self.check_step(0, "advertise", messages, dict.fromkeys(self.everyone, answer))

    def share(self) -> None:
        needed = self.expected["context"]["threshold"]
        points = [i + 1 for i in self.everyone]
        for kind in ("self_mask", "root"):
            self.shares[kind] = [
                ref.split(party[kind], needed, points, party[f"{kind}_coefficients"])
                for party in self.parties
            ]
        recorded = self.expected["steps"][1]["sent"]
        tables = [ref.decode(recorded[name])["records"] for name in self.names]
        self.sealed = [self.ciphertexts(dealer, tables[dealer]) for dealer in self.everyone]
        messages = {dealer: self.deal(dealer) for dealer in self.everyone}
        dealers = ref.pack_parties(self.everyone)
        digests = b"".join(hashlib.sha256(ref.encode(header)).digest() for header in self.headers)
        self.transcript = ref.transcript_id(self.execution, dealers, digests)
        assert self.expected["derived"]["transcript"] == self.transcript
        deliveries = {
            receiver: {
                "kind": "share delivery",
                "dealers": dealers,
                "digests": digests,
                "headers": [self.headers[d] for d in self.everyone if d != receiver],
                "parcels": b"".join(self.parcel(d, receiver) for d in self.everyone if d != receiver),
            }
            for receiver in self.everyone
        }
        self.check_step(1, "share", messages, deliveries)

    def kinds(self, dealer: int, receiver: int) -> list[str]:
        """Return the kinds of plaintext that are due from a dealer to a receiver, in their order."""
        if dealer == receiver:
            return []
        return ["shares", "pair seed"] if receiver > dealer else ["shares"]

    def ciphertexts(self, dealer: int, table: bytes) -> list[dict[str, bytes]]:
        """Return kind to ciphertext for each receiver, cut out of a recorded table."""
        found = []
        for receiver in self.everyone:
            table = table[99:]
            found.append({})
            for kind in self.kinds(dealer, receiver):
                found[-1][kind], table = table[: SEALED[kind]], table[SEALED[kind] :]
        assert not table
        return found

    def deal(self, dealer: int) -> dict[str, Any]:
        name, party = self.names[dealer], self.parties[dealer]
        table = [self.record(dealer, receiver) for receiver in self.everyone]
        header = self.signed(
            dealer,
            "share header",
            execution=self.execution,
            self_mask=ref.commit("self mask", self.execution, name, [party["self_mask"]]),
            root=ref.commit("root", self.execution, name, [party["root"]]),
            records_root=ref.merkle_root(table),
            record_count=len(table),
        )
        self.tables.append(table)
        self.headers.append(header)
        return {
            "kind": "share",
            "header": header,
            "records": b"".join(table),
        }

    def record(self, dealer: int, receiver: int) -> bytes:
        """Return the record of what a dealer gives a receiver, having opened what it sealed to it."""
        ends = [self.names[receiver]]
        self_mask, root = (self.shares[kind][dealer][receiver] for kind in ("self_mask", "root"))
        seed = self.pair_seed(dealer, receiver) if receiver > dealer else None
        sealed = self.sealed[dealer][receiver]
        for kind in self.kinds(dealer, receiver):
            content = self_mask + root if kind == "shares" else seed
            self.check_sealed(dealer, receiver, sealed[kind], kind, content)
        commitments = [
            self.commit("self mask share", dealer, [*ends, self_mask]),
            self.commit("root share", dealer, [*ends, root]),
            self.commit("pair seed", dealer, [*ends, seed]) if seed is not None else bytes(32),
        ]
        flags = HOLDER | (PAIR if seed is not None else 0) | (OWN if receiver == dealer else 0)
        return b"".join([receiver.to_bytes(2), bytes([flags]), *commitments, *sealed.values()])

    def commit(self, kind: str, owner: int, value: Sequence[bytes | str]) -> bytes:
        return ref.commit(kind, self.execution, self.names[owner], value)

    def pair_seed(self, dealer: int, receiver: int) -> bytes:
        root = self.parties[dealer]["root"]
        return ref.pair_seed(root, self.execution, self.names[dealer], self.names[receiver])

    def check_sealed(self, dealer: int, receiver: int, sealed: bytes, kind: str, content: bytes) -> None:
        party, ends = self.parties[receiver], [self.names[dealer], self.names[receiver]]
        root = party["seal_root"]
        if kind == "pair seed":
            root = ref.derive(party["root"], "secagg mask key", [self.context])
        info = [f"secagg {kind}", self.execution, *ends]
        number = {"shares": b"\x01", "pair seed": b"\x02"}[kind]
        plaintext = number + self.execution + dealer.to_bytes(2) + receiver.to_bytes(2) + content
        assert ref.open_sealed(root, sealed, info) == plaintext

    def parcel(self, dealer: int, receiver: int) -> bytes:
        proof = ref.merkle_proof(self.tables[dealer], receiver)
        return b"".join([receiver.to_bytes(2), *proof, self.tables[dealer][receiver]])

    def masked_inputs(self) -> list[tuple[list[int], int]]:
        """Return every party's masked vector and tag, and compare what was sent, in time or late."""
        context = self.expected["context"]
        vectors, messages = [], {}
        for i, party in enumerate(self.parties):
            encoded = ref.fixed_encode(context["participants"], context["clip"], party["update"])
            assert encoded["saturated"] == party["saturated"]
            keys = [(self.self_mask_key(i), True)]
            keys += [(self.pair_mask_key(*sorted((i, j))), i < j) for j in self.everyone if j != i]
            vectors.append((ref.add_masks(encoded["words"], keys), self.masked_tag(i, encoded["words"])))
            masked = b"".join(word.to_bytes(4, "little") for word in vectors[i][0])
            bound = {"execution": self.execution, "transcript": self.transcript}
            tagged = {"vector_hash": vector_hash(masked), "masked_tag": vectors[i][1].to_bytes(8)}
            header = self.signed(i, "masked input", **bound, **tagged)
            messages[i] = framed(ref.encode(header), masked)
        late = self.expected["late"]
        assert late["payload"] == messages.pop(self.names.index(late["sender"]))
        survivors = ref.pack_parties(messages)
        announcement = {"kind": "survivors", "survivors": survivors, **bound}
        self.check_step(2, "masked_input", messages, dict.fromkeys(messages, announcement))
        return vectors

    def masked_tag(self, own: int, words: Sequence[int]) -> int:
        runs = [[1, signed(word)] for word in words]
        about = (self.expected["group_secret"], self.execution, self.transcript)
        tag = int.from_bytes(ref.sum_check_tag(*about, self.names[own], runs))
        tag += self.self_tag_mask(own, self.parties[own]["self_mask"])
        for other in self.everyone:
            if other != own:
                mask = self.pair_tag_mask(*sorted((own, other)))
                tag += mask if own < other else -mask
        return tag % ref.FIELD

    def self_tag_mask(self, owner: int, secret: bytes) -> int:
        mask = ref.self_tag_mask(secret, self.execution, self.transcript, self.names[owner])
        return int.from_bytes(mask)

    def pair_tag_mask(self, dealer: int, receiver: int) -> int:
        ends = (self.names[dealer], self.names[receiver])
        seed = self.pair_seed(dealer, receiver)
        return int.from_bytes(ref.pair_tag_mask(seed, self.execution, self.transcript, *ends))

    def self_mask_key(self, owner: int) -> bytes:
        secret = self.parties[owner]["self_mask"]
        return ref.self_mask_key(secret, self.execution, self.transcript, self.names[owner])

    def pair_mask_key(self, dealer: int, receiver: int) -> bytes:
        seed = self.pair_seed(dealer, receiver)
        names = (self.names[dealer], self.names[receiver])
        return ref.pair_mask_key(seed, self.execution, self.transcript, *names)

    def consistency(self) -> list[int]:
        """Compare the phase and return the survivors."""
        dropped = [self.names.index(self.expected["late"]["sender"])]
        survivors = [i for i in self.everyone if i not in dropped]
        packed = ref.pack_parties(survivors)
        name = ref.survivors_id(self.execution, self.transcript, packed)
        assert self.expected["derived"]["survivors"] == name
        bound = {"execution": self.execution, "transcript": self.transcript}
        statements = {i: self.signed(i, "consistency", **bound, survivors_hash=name) for i in survivors}
        request = {
            "kind": "unmask request",
            "execution": self.execution,
            "survivors": packed,
            "dropped": ref.pack_parties(dropped),
            "signers": packed,
            "signatures": b"".join(statements[i]["signature"] for i in survivors),
        }
        self.check_step(3, "consistency", statements, dict.fromkeys(survivors, request))
        return survivors

    def revealed(self, survivors: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return what the survivors reveal."""
        packed = ref.pack_parties(survivors)
        dropped = [i for i in self.everyone if i not in survivors]
        return {
            holder: self.signed(
                holder,
                "unmask",
                execution=self.execution,
                survivors=packed,
                self_mask_shares=b"".join(self.shares["self_mask"][owner][holder] for owner in survivors),
                dropped=ref.pack_parties(dropped),
                root_shares=b"".join(self.shares["root"][owner][holder] for owner in dropped),
            )
            for holder in survivors
        }

    def unmask(self, inputs: Sequence[tuple[list[int], int]], survivors: Sequence[int]) -> None:
        """Recompute the sum and its tag from masked inputs and revealed shares alone."""
        cancel = []
        tag = sum(inputs[i][1] for i in survivors)
        for owner in survivors:
            secret = self.combine("self_mask", owner, survivors)
            key = ref.self_mask_key(secret, self.execution, self.transcript, self.names[owner])
            cancel.append((key, False))
            tag -= self.self_tag_mask(owner, secret)
        for gone in set(self.everyone) - set(survivors):
            root = self.combine("root", gone, survivors)
            assert root == self.parties[gone]["root"]
            for other in survivors:
                # the earlier of a pair has added their mask, the later has subtracted it
                pair = sorted((gone, other))
                cancel.append((self.pair_mask_key(*pair), gone < other))
                tag += self.pair_tag_mask(*pair) if gone < other else -self.pair_tag_mask(*pair)
        total = [sum(words) % ref.RING for words in zip(*(inputs[i][0] for i in survivors), strict=True)]
        words = ref.add_masks(total, cancel)
        announcement = self.announcement(words, (tag % ref.FIELD).to_bytes(8), survivors)
        self.check_step(4, "unmask", self.revealed(survivors), dict.fromkeys(survivors, announcement))
        self.check_sum(words, announcement["sum_tag"], survivors)
        context = self.expected["context"]
        assert words == self.expected["sum_words"]
        decoded = ref.fixed_decode(context["participants"], context["clip"], words)
        assert decoded["values"] == self.expected["sum"]
        assert [self.names[i] for i in survivors] == self.expected["contributors"]

    def announcement(self, words: Sequence[int], tag: bytes, survivors: Sequence[int]) -> dict[str, Any]:
        """Return what the coordinator announces and signs."""
        total = b"".join(word.to_bytes(4, "little") for word in words)
        name = ref.survivors_id(self.execution, self.transcript, ref.pack_parties(survivors))
        assert self.expected["derived"]["sum_hash"] == vector_hash(total)
        parts = [self.execution, name, vector_hash(total), tag]
        return {
            "kind": "sum",
            "execution": self.execution,
            "survivors_hash": name,
            "total": total,
            "sum_tag": tag,
            "signature": ref.sign(self.expected["coordinator_identity"], "secagg sum", parts),
        }

    def check_sum(self, words: Sequence[int], tag: bytes, survivors: Sequence[int]) -> None:
        """Check the sum as an institution does, and compare the next model."""
        context = self.expected["context"]
        sizes = ref.fixed_sizes(context["participants"], context["clip"])
        about = (self.expected["group_secret"], self.execution, self.transcript)
        values = [signed(word) for word in words]
        names = [self.names[i] for i in survivors]
        ref.sum_check_verify(*about, names, sizes["limit"], [[1, value] for value in values], tag)
        assert tag == self.expected["sum_tag"]
        moved = ref.next_model(self.expected["model"], values, len(survivors), sizes["fraction_bits"])
        assert moved["model"] == self.expected["next_model"]

    def combine(self, kind: str, owner: int, holders: Sequence[int]) -> bytes:
        needed = self.expected["context"]["threshold"]
        return ref.combine([(h + 1, self.shares[kind][owner][h]) for h in holders][:needed])
