"""The cases of `crypto/vectors/rounds` that hold; `make_failing` writes the files."""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg import registry
from tests.crypto.vectors import reference_encoding as plain
from tests.crypto.vectors.make_round import SESSION, fixed
from tests.crypto.vectors.recorded import FOLDER
from tests.crypto.vectors.rounds import package_rounds as package

ROOM = FOLDER / "rounds"
ROUNDS, FIRST = "rounds.json", "first_model.json"
DOMAINS = [0, 1, 1, 2]
NAMES = [package.name_of(i) for i in range(4)]
MODEL = struct.pack("<5f", 0.5, -1.0, 2.0**-149, 3.25, 1e-3)
BOTH = {"session": SESSION, "domains": DOMAINS}


def case(function: str, **arguments: object) -> dict[str, Any]:
    """Return a case: a function, its arguments, and the result that the package gives."""
    result = getattr(package, function)(**arguments)
    return {"function": function, "arguments": arguments, "result": result}


def hash_of(participation: str, scheme: str) -> bytes:
    return package.configuration(SESSION, DOMAINS, participation, scheme).hash


ALL, ONE, NONE, CKKS = (
    hash_of(*about)
    for about in (
        ("all", registry.MASKING),
        ("one-per-domain", registry.MASKING),
        ("all", registry.NONE),
        ("all", registry.CKKS),
    )
)
COHORT = package.configuration(SESSION, DOMAINS, "one-per-domain", registry.MASKING).round_roster(3).names
"""Who takes part in round 3, where one institution a domain does."""


def statement(**changes: object) -> dict[str, Any]:
    return {
        "session": SESSION,
        "configuration_hash": ALL,
        "round": 3,
        "attempt": 2,
        "transcript": fixed("transcript"),
        "sum_hash": fixed("sum"),
        "sum_tag": fixed("tag")[:8],
        "model_before": fixed("before"),
        "model_after": package.model_ids(MODEL, b"", 1, b"")["open"],
        **changes,
    }


def newest(
    about: Mapping[str, Any],
    signers: Sequence[str],
    model: bytes = MODEL,
    keys: Sequence[str] = (),
    **changes: Any,
) -> bytes:
    """Return a `CatchUp`.

    Args:
        about: What is signed.
        signers: Who is said to have signed.
        model: The model.
        keys: Whose keys have signed; by default theirs.
        changes: What the statement says instead, after it was signed.
    """
    signatures = [
        {
            "party": name,
            "signature": package.statement_signed(package.identity_of(key), dict(about))["signature"],
        }
        for name, key in zip(signers, keys or signers, strict=True)
    ]
    message = {
        "kind": "catch up",
        "model": model,
        "signatures": signatures,
        "statement": {**about, **changes},
    }
    return plain.encode(message)


def catching_up(payload: bytes, kept_round: int = 1, **changes: Any) -> dict[str, Any]:
    about = {"configuration_hash": ALL, "participation": "all", "scheme": "masking", **changes}
    return case("catch_up", **BOTH, **about, values=5, kept_round=kept_round, payload=payload)


def confirmed(signers: Sequence[str]) -> list[list[Any]]:
    """Return who has confirmed the group secret, with what signature."""
    parts = (SESSION, ALL, fixed("commitment"))
    return [
        [name, Identity.from_private_bytes(package.identity_of(name)).sign("group confirmed", *parts)]
        for name in signers
    ]


OF_ONE = {"configuration_hash": ONE, "participation": "one-per-domain"}

TRACES = {
    "a round and the next": (
        "begin 1.1 P0",
        "admit 1234",
        "reveal 1.1 P0 1234",
        "sum 1.1 P0 1234",
        "end 1.1 completed",
        "begin 2.1 P1",
    ),
    "on one model only the same set, also after a restart and in another round": (
        "begin 1.1 P0",
        "reveal 1.1 P0 1234",
        "admit 123",
        "restart",
        "admit 123",
        "begin 2.1 P0",
        "admit 124",
        "admit 1234",
    ),
    "a second one on a model ends the session": (
        "begin 1.1 P0",
        "reveal 1.1 P0 1234",
        "begin 2.1 P0",
        "reveal 2.1 P0 1234",
        "begin 3.1 P0",
        "restart",
        "begin 3.1 P0",
    ),
    "another model: what was bound is free": (
        "begin 1.1 P0",
        "reveal 1.1 P0 1234",
        "catch 1.1",
        "admit 123",
        "begin 2.1 P1",
    ),
    "of the newest execution alone, once, and after a restart once more": (
        "begin 1.1 P0",
        "late 1.1",
        "reveal 1.1 P0 1234",
        "late 1.1",
        "fail 1.1 P0",
        "late 1.1",
        "restart",
        "late 1.1",
        "begin 1.2 P0",
        "late 1.1",
        "late 1.2",
    ),
    "a verified round is not joined again, nor denied": (
        "begin 2.1 P0",
        "reveal 2.1 P0 123",
        "sum 2.1 P0 123",
        "begin 2.2 P1",
        "begin 1.9 P1",
        "begin 3.1 P0",
        "end 2.1 aborted",
        "end 1.1 aborted",
        "late 2.1",
        "sum 2.1 P1 123",
        "sum 3.1 P0 123",
    ),
    "what others state, and what is older": (
        "catch 2.1",
        "catch 2.1",
        "catch 1.1",
        "catch 3.2",
        "begin 3.3 P2",
    ),
}
"""Stories of one institution; see `package_rounds.Kept` for the words."""


def rounds() -> list[dict[str, Any]]:
    signed = [
        case("statement_signed", identity=package.identity_of("clinic-1"), fields=fields)
        for fields in (statement(), statement(sum_tag=b"", round=2**31, attempt=1))
    ]
    end = struct.pack("<3d", 1.5, -(2.0**-30), 1e3)
    place = [2, 1]
    context = package.configuration(SESSION, DOMAINS, "all", registry.NONE).round_context(
        2, 1, bytes(32), None
    )
    stated = case(
        "plain_sum",
        identity=package.COORDINATOR,
        context=context.hash,
        contributors=["clinic-1", "clinic-2", "clinic-4"],
        total=list(struct.unpack("<3d", end)),
    )
    records = [
        (1, 1, 0, 1, fixed("context", 1), fixed("transcript", 1)),
        (1, 2, 1, 1, fixed("context", 2), fixed("transcript", 2)),
        (2, 1, 0, 0, fixed("context", 3), bytes(32)),
        (3, 1, 1, 1, fixed("context", 4), fixed("transcript", 4)),
    ]
    told = case("account", packed=b"".join(struct.pack(">II??32s32s", *record) for record in records))
    closing = {
        "session": SESSION,
        "configuration": ALL,
        "model": fixed("model"),
        "completed_rounds": told["result"]["completed"],
        "transcript": told["result"]["transcript"],
    }
    return [
        *signed,
        case("statement_of_round", name="clinic-2"),
        case("statements_needed", sizes=[1, 2, 3, 4, 5, 6, 7, 10, 33, 64, 65, 79, 80, 100, 256]),
        catching_up(newest(statement(), NAMES[2:])),
        catching_up(
            newest(statement(configuration_hash=ONE), COHORT),
            configuration_hash=ONE,
            participation="one-per-domain",
        ),
        catching_up(newest(statement(), NAMES[2:]), kept_round=3),
        case(
            "confirmations",
            **BOTH,
            configuration_hash=ALL,
            commitment=fixed("commitment"),
            confirmed=confirmed(NAMES[:3]),
        ),
        case(
            "announced_sum",
            identity=package.COORDINATOR,
            execution=fixed("execution"),
            survivors_hash=fixed("survivors"),
            words=[0, 1, 2**31 - 1, 2**32 - 5],
            tag=fixed("tag")[:8],
        ),
        stated,
        case(
            "plain_sum_taken",
            **BOTH,
            configuration_hash=NONE,
            place=place,
            model_id=bytes(32),
            context=context.hash,
            model=MODEL,
            payload=plain_of_five(context.hash),
        ),
        case(
            "model_ids",
            model=MODEL,
            previous=fixed("before"),
            round_number=7,
            payload=b"a sum as it was sent",
        ),
        told,
        case("closed", identity=package.identity_of("clinic-4"), fields=closing),
        *(case("trace", events=list(events)) for events in TRACES.values()),
    ]


def plain_of_five(
    context: bytes, names: Sequence[str] = ("clinic-1", "clinic-3", "clinic-4"), **changes: Any
) -> bytes:
    values = [1.5, -(2.0**-30), 2.0**-149, 1e3, 2.0**-53]
    about = {"identity": package.COORDINATOR, "total": values, **changes}
    return package.plain_sum(context=context, contributors=list(names), **about)["payload"]


def first_models() -> list[dict[str, Any]]:
    """Small ones of every method, and long streams, so that all ways through the ziggurat are taken."""
    words = base64.b64encode(struct.pack("<4f", 1.0, -2.0, 0.25, 100.0)).decode()
    wide = {"context_tokens": 3, "text_width": 2}
    return [
        case("first_model", method="fedapt", **wide, classes=3, feature_size=5, keys=2, seed=0),
        case("first_model", method="fedapt", **wide, feature_size=5, class_specific=False, seed=7),
        case("first_model", method="promptfl", **wide, classes=2, seed=2**32 - 1, words=words),
        case("first_model", method="cocoop", **wide, feature_size=40, seed=2**32, words=words),
        case("first_model", method="fedclip", feature_size=6, seed=2**63 - 1),
        case("first_model", method="linear-probe", classes=3, feature_size=4),
        case("first_model", method="fedprox", tower_values=9),
        case("first_model", method="promptfl", classes=100, context_tokens=8, text_width=16, seed=2**40 + 5),
    ]


def make_all() -> dict[str, dict[str, Any]]:
    """Return file name to content."""
    return {
        ROUNDS: {
            "what": "Verified rounds: statements, announced sums, catching up, the end, and stories",
            "cases": rounds(),
        },
        FIRST: {
            "what": "First models from the plan alone: size, first and last bytes",
            "cases": first_models(),
        },
    }
