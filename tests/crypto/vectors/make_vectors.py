"""Make `crypto/vectors`: ``python -m tests.crypto.vectors.make_vectors``.

Everything follows from labelled hashes, so a second run gives the same files, but for HPKE: the library
draws an encapsulation's randomness itself, so ciphertexts, and what is signed over them, are new each time.
Shamir coefficients and institutions' secrets come from the same hashes through `RecordedSource`, which
stands in for ``secrets`` in the package's modules: the real code makes the vectors, and replays them.

Nothing is overwritten without ``--write``: vectors that change by accident are no vectors.
"""

import argparse
import hashlib
import json
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedapt_crypto import domain_keys, seal
from fedapt_crypto.keystream import CHUNK_VALUES
from tests.crypto.vectors import failing_enrolment, make_enrolment, make_group, package
from tests.crypto.vectors.failing_cases import failing
from tests.crypto.vectors.make_round import PRIME, SESSION, coefficients, fixed, whole_round
from tests.crypto.vectors.recorded import FOLDER, freeze

EXECUTION, TRANSCRIPT = hashlib.sha256(b"execution").digest(), hashlib.sha256(b"transcript").digest()


def case(function: str, **arguments: object) -> dict[str, Any]:
    """Return a case: a function, its arguments, and the result that the package gives."""
    result = getattr(package, function)(**arguments)
    return {"function": function, "arguments": arguments, "result": result}


def derivation() -> list[dict[str, Any]]:
    values: list[object] = [None, True, False, 0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32]
    values += [2**64 - 1, -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)]
    values += [0.5, -4.0, "", "é", "a" * 31, "a" * 32, b"", b"\x00", bytes(256)]
    values += [[], [[], [1, [b"x", "x"]]], list(range(16)), {}, {"b": 1, "a": {"d": b"", "c": [None]}}]
    values += [{f"k{i}": i for i in range(17)}]
    parts = [b"\x00" * 3, "text", 0, 300, ["nested", [b"\xff"]]]
    secret, pair, dealt = fixed("secret"), ("clinic-1", "clinic-2"), fixed("digests")
    cases = [case("encode", value=value) for value in values]
    cases += [case("decode", data=package.encode({"value": value})) for value in values[::3]]
    cases += [case("pack_parties", indices=indices) for indices in ([], [0], [3, 1, 258, 65535])]
    for label, some in (("", []), ("label", parts), ("label", parts[:2]), ("label", [b"\x00" * 3 + b"text"])):
        cases.append(case("labelled", label=label, parts=some))
        cases.append(case("digest", label=label, parts=some))
        cases.append(case("derive", secret=secret, label=label, parts=some))
        cases.append(case("sign", identity=secret, label=label, parts=some))
    cases += [case("derive", secret=secret, label="label", parts=parts, length=size) for size in (1, 33, 96)]
    cases += [case("identity_key", identity=secret), case("fingerprint", public_key=secret)]
    cases += [
        case("mask_key", root=secret, context=fixed("context")),
        case("pair_seed", root=secret, execution=EXECUTION, dealer=pair[0], receiver=pair[1]),
        case("self_mask_key", seed=secret, execution=EXECUTION, transcript=TRANSCRIPT, owner=pair[0]),
        case("self_tag_mask", seed=secret, execution=EXECUTION, transcript=TRANSCRIPT, owner=pair[0]),
        case("execution_id", context=fixed("context"), participants=b"\x00\x00\x00\x01", digests=dealt),
        case("transcript_id", execution=EXECUTION, dealers=b"\x00\x00\x00\x01", digests=dealt),
        case("survivors_id", execution=EXECUTION, transcript=TRANSCRIPT, survivors=b"\x00\x00\x00\x01"),
        case("domain_commitment", seed=secret, session=SESSION, key_index=3),
    ]
    cases += [
        case("pair_mask_key", seed=secret, execution=EXECUTION, transcript=TRANSCRIPT, dealer=a, receiver=b)
        for a, b in (pair, pair[::-1])
    ]
    cases += [
        case("pair_tag_mask", seed=secret, execution=EXECUTION, transcript=TRANSCRIPT, dealer=a, receiver=b)
        for a, b in (pair, pair[::-1])
    ]
    for kind, value in (
        ("self mask", [secret]),
        ("root", [secret]),
        ("pair seed", [pair[1], secret]),
        ("self mask share", [pair[1], b"\x00" + secret]),
        ("root share", [pair[1], b"\x01" + bytes(32)]),
    ):
        cases.append(case("commit", kind=kind, execution=EXECUTION, owner=pair[0], value=value))
    return cases


def keystreams() -> list[dict[str, Any]]:
    keys = [bytes(32), bytes(range(32)), fixed("key")]
    border = 4 * CHUNK_VALUES
    cases = [case("keystream", key=key, start=0, length=64) for key in keys]
    for start, length in ((1, 15), (7, 33), (border - 16, 48), (border - 3, 7), (2 * border - 5, 10)):
        cases.append(case("keystream", key=keys[2], start=start, length=length))
    words = [0, 1, 2**31, 2**32 - 1, 12345]
    signed: list[list[list[object]]] = [[], [[keys[0], True]], [[keys[0], False]]]
    signed.append([[keys[1], True], [keys[2], False], [keys[0], True]])
    return cases + [case("add_masks", words=words, keys=some) for some in signed]


def shamir() -> list[dict[str, Any]]:
    cases = [case("thresholds", up_to=20)]
    secrets = {"fixed": fixed("secret"), "zero": bytes(32), "largest": b"\xff" * 32}
    for name, threshold, indices in (
        ("fixed", 3, [1, 2, 3, 4]),
        ("zero", 2, [1, 7, 65536]),
        ("largest", 5, [2, 3, 5, 7, 11, 1001]),
    ):
        drawn = coefficients(threshold - 1, name)
        dealt = case("split", secret=secrets[name], threshold=threshold, indices=indices, coefficients=drawn)
        cases.append(dealt)
        shares = list(zip(indices, dealt["result"], strict=True))
        cases.append(case("weights_at_zero", indices=indices[-threshold:]))
        for some in (shares[:threshold], shares[-threshold:], shares[::-1], shares):
            given = case("combine", shares=some)
            assert given["result"] == secrets[name]
            cases.append(given)
    top = (PRIME - 1).to_bytes(33)
    cases.append(
        case("split", secret=b"\xff" * 32, threshold=3, indices=[1, 2, 3], coefficients=[top, bytes(33)])
    )
    return cases


def fixed_points() -> list[dict[str, Any]]:
    cases = []
    for summands, clip in (
        (1, 1.0),
        (3, 4.0),
        (4, 0.1),
        (64, 1000.0),
        (100, 1e8),
        (1000, 0.25),
        (2**31 - 1, 1.0),
    ):
        sizes = package.fixed_sizes(summands, clip)
        step, limit = 2.0 ** -sizes["fraction_bits"], sizes["limit"]
        ties = [step * half / 2 for half in (1, 3, 5, -1, -3, -5)]
        near = [step * (0.5 - 2**-20), step * (0.5 + 2**-20), 1e-300]
        edges = [sign * step * number for sign in (1, -1) for number in (limit, limit + 0.5, limit + 1)]
        values = [0.0, *ties, *near, *edges, clip, -clip, 1e30, -1e30]
        encoded = case("fixed_encode", summands=summands, clip=clip, values=values)
        words = [*encoded["result"]["words"], 2**31 - 1, 2**31]
        cases += [encoded, case("fixed_decode", summands=summands, clip=clip, words=words)]
    return cases


def seals() -> list[dict[str, Any]]:
    root = fixed("sealing")
    cases = [case("sealing_key", root=root)]
    receiver = package.sealing_key(root)
    for plaintext, info in (
        (b"a share", ["secagg shares", EXECUTION, "clinic-1", "clinic-2"]),
        (bytes(range(64)), ["domain key", SESSION, 3, "clinic-2"]),
    ):
        sealed = seal.seal(receiver, plaintext, *info)
        opened = case("open_sealed", root=root, sealed=sealed, info=info)
        assert opened["result"] == plaintext
        cases.append(opened)
    return cases


def merkle() -> list[dict[str, Any]]:
    return [
        case("merkle_tree", leaves=[fixed("leaf", i)[: i + 1] for i in range(count)])
        for count in (0, 1, 2, 3, 4, 7)
    ]


def domains() -> list[dict[str, Any]]:
    cases = []
    for index, shape in ((3, [4, 6]), (4095, [1, 1])):
        seed, root, name = fixed("seed", index), fixed("holder", index), f"clinic-{index + 1}"
        sealed = domain_keys.seal_seed(seed, package.sealing_key(root), SESSION, index, name)
        about: dict[str, Any] = {"session": SESSION, "key_index": index}
        cases += [
            case("domain_commitment", seed=seed, **about),
            case("domain_open", root=root, sealed=sealed, receiver=name, **about),
            case("domain_values", seed=seed, key_index=index, shape=shape),
            case(
                "shared_domain_values", seed=seed, **about, shape=shape, secret=fixed("group secret", index)
            ),
        ]
    return cases


UNLIKE_FACTORS = [1000000, 1000012, 1000032]
"""Sums that divided by 49 are others, by a last bit, than multiplied by a forty-ninth."""


def nearest(value: float) -> float:
    """Return a number as the nearest float32: what is left of it beside that shows its last bits."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return rounded


def sum_tags() -> list[dict[str, Any]]:
    secret, limit, names = fixed("group secret"), (2**31 - 1) // 3, ["clinic-1", "clinic-2", "clinic-3"]
    about: dict[str, Any] = {"secret": secret, "execution": EXECUTION, "transcript": TRANSCRIPT}
    ends = (0, 7, 8, 12345678, 2**64 - 9, 2**64 - 8, 2**64 - 1)
    cases = [case("field_elements", drawn=b"".join(word.to_bytes(8, "little") for word in ends))]
    for label in ("sum check rows", "sum check columns"):
        cases.append(case("sum_check_elements", **about, label=label, count=3))
    cases += [case("sum_check_pad", **about, name=name) for name in names[:2]]
    for length in (1, 2047, 2048, 2049, 5000):
        updates = [[[1, limit - i], [length - 1, -limit]][: 1 + (length > 1)] for i in range(3)]
        tags = [case("sum_check_tag", **about, name=n, runs=r) for n, r in zip(names, updates, strict=True)]
        cases += tags[: 3 if length == 5000 else 1]
        total = [[count, sum(u[i][1] for u in updates)] for i, (count, _) in enumerate(updates[0])]
        tag = sum(int.from_bytes(each["result"]) for each in tags) % (2**61 - 1)
        verified = {"survivors": names, "limit": limit, "runs": total, "tag": tag.to_bytes(8)}
        cases += [case("sum_check_verify", **about, **verified)] if length in (1, 5000) else []
    small = [2.0**-149, -(2.0**-149), 3 * 2.0**-149, 2.0**-126 - 2.0**-149, -(2.0**-127), 2.0**-126]
    for model, total, survivors, bits in (
        ([1.0, -1.0, 0.1, 1e-3, 7.25], [1, -1, limit, -limit, 2**31 - 1], 3, 26),
        ([*small, 0.0, -0.0, 0.25], [*[0] * 8, 5], 3, 26),
        ([*small, -0.5], [1, -1, 2, 3, -5, 7, 2**29], 7, 30),
        ([1.0, 1 + 2.0**-23, -1.0, -1 - 2.0**-23, 1.0], [64, 64, -64, -64, 65], 1, 30),  # ties
        ([1.0], [64 * 2**24 + 1], 2**24, 30),  # rounded twice
        ([nearest(-x / 2**26 / 49) for x in UNLIKE_FACTORS], UNLIKE_FACTORS, 49, 26),
        ([3.4028234663852886e38, -(2.0**24), 1.0], [2**31 - 1, -(2**31) + 1, 5], 1, -20),
    ):
        flat = struct.pack(f"<{len(model)}f", *model)
        cases.append(case("next_model", model=flat, total=total, survivors=survivors, fraction_bits=bits))
    return cases


TOPICS: dict[str, tuple[str, Callable[[], Sequence[Mapping[str, Any]]]]] = {
    "derivation.json": (
        "Encoding, labelled hashes, HKDF, signatures, and which key is from what",
        derivation,
    ),
    "keystream.json": (
        "AES-256-CTR bytes from any place, and vectors of 32-bit words under masks",
        keystreams,
    ),
    "shamir.json": ("Shares from given coefficients (highest power first), and secrets from shares", shamir),
    "fixed_point.json": (
        "Real values as 32-bit words: ties, edges of the range, clipped values",
        fixed_points,
    ),
    "seal.json": ("HPKE ciphertexts, made once, that open under the given root and info", seals),
    "merkle.json": ("Roots of short lists, and the proof of every leaf", merkle),
    "sum_tag.json": ("Field elements, pads, tags, sums that verify, and next models", sum_tags),
    "group_secret.json": (
        "The group secret: commitment, what its maker signs, one member's part, confirmation, CKKS key",
        make_group.group_secrets,
    ),
    "enrolment.json": (
        "Join string, requests, answers, renewal and signed roster; signatures and keys at the edge",
        make_enrolment.enrolment,
    ),
    "neighbour_graph.json": (
        "Neighbours, thresholds and quorum by the size of a round",
        make_enrolment.graphs,
    ),
    "domain_keys.json": ("Domain seeds: commitment, sealed seed, and key values in steps of 2**-24", domains),
}
DETERMINISTIC = (
    "derivation.json",
    "keystream.json",
    "shamir.json",
    "fixed_point.json",
    "merkle.json",
    "sum_tag.json",
    "enrolment.json",
    "neighbour_graph.json",
)
"""Files that come out the same each time they are made."""


def make_topic(name: str) -> dict[str, Any]:
    what, cases = TOPICS[name]
    return {"what": what, "cases": list(cases())}


FAILING_ENROLMENT = "failing_enrolment.json"


def refused_of_enrolment() -> dict[str, Any]:
    return {
        "what": "What must be refused of enrolment, rosters, keys and signatures",
        "cases": failing_enrolment.refused(),
    }


def make_all() -> dict[str, dict[str, Any]]:
    """Return file name to content."""
    round_ = whole_round()
    files = {name: make_topic(name) for name in TOPICS}
    refused = failing(round_, files)
    about_round = "A round of four on a full graph; one vanishes before its masked input"
    files["round.json"] = {"what": about_round, **round_}
    about_failing = "What must be refused, with the name of the error; states are those of round.json"
    files["failing.json"] = {"what": about_failing, "cases": refused}
    files[FAILING_ENROLMENT] = refused_of_enrolment()
    return files


def to_text(content: Mapping[str, Any]) -> str:
    return json.dumps(freeze(content), indent=1, ensure_ascii=True) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the known-answer vectors of the masking protocol.")
    parser.add_argument("--write", action="store_true", help="overwrite the files that are there")
    write = parser.parse_args().write
    existing = [
        name
        for name in (*TOPICS, "round.json", "failing.json", FAILING_ENROLMENT)
        if (FOLDER / name).exists()
    ]
    if existing and not write:
        print(f"{', '.join(existing)} exist: nothing is overwritten without --write", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in make_all().items():
        (FOLDER / name).write_text(to_text(content), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
