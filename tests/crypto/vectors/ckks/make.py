"""Make ``crypto/vectors/ckks.json``: ``python -m tests.crypto.vectors.ckks.make --write``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.crypto.vectors.ckks import reference as ref
from tests.crypto.vectors.make_round import fixed
from tests.crypto.vectors.make_vectors import to_text
from tests.crypto.vectors.recorded import FOLDER

NAME = "ckks.json"
NAMES = ["clinic-1", "clinic-2", "clinic-3"]
LENGTH = 3
LIMIT = (2**31 - 1) // 3
G, EXECUTION = fixed("ckks group secret"), fixed("ckks execution")
UPDATES = [[LIMIT, -LIMIT, 5], [LIMIT, -LIMIT, -7], [LIMIT, -LIMIT, 4]]


def case(function: str, **arguments: object) -> dict[str, Any]:
    """Return a case with the result of the reference, which knows SPEC.md alone."""
    return {"function": function, "arguments": arguments, "result": getattr(ref, function)(**arguments)}


def decrypted() -> list[list[Any]]:
    """Return what the sum of the three decrypts to, as if with an error of up to an eighth in some slots."""
    layout = list(ref._layout(G, EXECUTION, LENGTH))
    kappas = [ref.ckks_kappa(G, EXECUTION, name, LENGTH) for name in NAMES]
    found = []
    for piece, place, kind, number in layout:
        if kind != "end":
            of_all = kappas if kind == "kappa" else UPDATES
            error = (0.125, -0.125, 0.0625, 0.0)[number % 4]
            found.append([piece, place, float(sum(each[number] for each in of_all)) + error])
    return found


def known() -> list[dict[str, Any]]:
    about: dict[str, Any] = {"secret": G, "execution": EXECUTION}
    tags = [case("ckks_tag", **about, name=n, update=u) for n, u in zip(NAMES, UPDATES, strict=True)]
    tag = (sum(int.from_bytes(each["result"]) for each in tags) % ref.PRIME).to_bytes(8)
    pieces = [b"a sum's ciphertext", b"and another one"]
    hashed = case("ckks_sum_hash", execution=EXECUTION, pieces=pieces, tag=tag)
    stated = {"contributors": NAMES, "sum_hash": hashed["result"]}
    identity = fixed("ckks identity")
    signer = {"identity": identity, "sender": "clinic-2", "execution": EXECUTION}
    return [
        case("ckks_execution", context_hash=fixed("ckks context")),
        case("ckks_places", **about, length=4088),
        case("ckks_kappa", **about, name="clinic-1", length=4088),
        case("ckks_pack", **about, name="clinic-2", update=UPDATES[1]),
        *tags,
        hashed,
        case("ckks_transcript", execution=EXECUTION, **stated),
        case("ckks_signature", **signer, **stated),
        case("ckks_update_signature", **signer, byte=b"\x07", size=60_017, tag=tags[1]["result"]),
        case(
            "ckks_open",
            **about,
            participants=3,
            contributors=NAMES,
            length=LENGTH,
            slots=decrypted(),
            tag=tag,
        ),
        case("ckks_noise", **about, **stated, participants=64, decryptions=2**20, count=5),
    ]


def refused(opened: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What differs from the arguments of the sum that is opened; slots that are named are replaced."""
    layout = list(ref._layout(G, EXECUTION, LENGTH))
    there = {(piece, place): number for piece, place, number in opened["slots"]}
    places = {kind: next(where[:2] for where in layout if where[2] == kind) for kind in ("kappa", "value")}
    last = next(where[:2] for where in reversed(layout) if where[2] == "end")
    tag = int.from_bytes(opened["tag"])

    def moved(place: Sequence[int], by: float) -> list[list[float]]:
        piece, inside = place
        return [[piece, inside, there.get((piece, inside), 0.0) + by]]

    doubled = [[piece, place, 2 * round(number)] for piece, place, number in opened["slots"]]
    found: dict[str, tuple[dict[str, object], str]] = {
        "value-no-integer": ({"slots": moved(places["value"], 0.25)}, "SumCheckFailed"),
        "check-value-no-integer": ({"slots": moved(places["kappa"], 0.25)}, "SumCheckFailed"),
        "end-no-integer": ({"slots": moved(last, 0.2)}, "SumCheckFailed"),
        "value-shifted-by-one": ({"slots": moved(places["value"], -1)}, "SumCheckFailed"),
        "check-value-shifted-by-one": ({"slots": moved(places["kappa"], 1)}, "SumCheckFailed"),
        "end-shifted-by-one": ({"slots": moved(last, 1)}, "SumCheckFailed"),
        "value-out-of-range": ({"slots": moved(places["value"], 2.0**31)}, "SumCheckFailed"),
        "doubled": ({"slots": doubled, "tag": (2 * tag % ref.PRIME).to_bytes(8)}, "SumCheckFailed"),
        "another-tag": ({"tag": ((tag + 1) % ref.PRIME).to_bytes(8)}, "SumCheckFailed"),
        "tag-beyond-the-field": ({"tag": (tag + ref.PRIME).to_bytes(8)}, "MalformedMessage"),
        "fewer-contributors": ({"contributors": NAMES[:2]}, "SumCheckFailed"),
        "another-execution": ({"execution": fixed("another ckks execution")}, "SumCheckFailed"),
    }
    return [{"name": name, "changes": changes, "error": error} for name, (changes, error) in found.items()]


def content() -> dict[str, Any]:
    cases = known()
    opened = next(each["arguments"] for each in cases if each["function"] == "ckks_open")
    return {
        "what": "CKKS without ciphertexts: κ, slots, tags, hashes, signatures, rounding, noise",
        "cases": cases,
        "refused": refused(opened),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the known-answer vectors of CKKS.")
    parser.add_argument("--write", action="store_true", help="overwrite the file that is there")
    path = FOLDER / NAME
    if path.exists() and not parser.parse_args().write:
        print(f"{path.name} exists: nothing is overwritten without --write", file=sys.stderr)
        return 2
    path.write_text(to_text(content()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
