"""Make `crypto/vectors/rounds`: ``python -m tests.crypto.vectors.rounds.make_failing --write``.

Everything follows from labelled hashes, and comes out the same each time. A failing case is a genuine one
with changed arguments, or with a few bytes of its payload replaced: `expanded` gives it whole.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fedapt_crypto.encoding import encode
from tests.crypto.vectors.failing_cases import shortest
from tests.crypto.vectors.make_vectors import to_text
from tests.crypto.vectors.rounds import make_rounds as genuine
from tests.crypto.vectors.rounds import package_rounds as package
from tests.crypto.vectors.rounds.make_rounds import (
    CKKS,
    COHORT,
    DOMAINS,
    MODEL,
    NAMES,
    NONE,
    ONE,
    confirmed,
    newest,
    plain_of_five,
    statement,
)

FAILING = "failing_rounds.json"
FEW, OTHER, REFUSED, MALFORMED = (
    "TooFewParticipants",
    "ContextMismatch",
    "VerificationFailed",
    "MalformedMessage",
)
SESSION = bytes(16)
ELSEWHERE = {
    "session": SESSION,
    "configuration_hash": package.configuration(SESSION, DOMAINS, "all", "masking").hash,
}


class Maker:
    """Makes failing cases out of genuine ones.

    Args:
        cases: Those of rounds.json.
    """

    def __init__(self, cases: Sequence[Mapping[str, Any]]) -> None:
        self.cases = cases
        self.made: list[dict[str, Any]] = []

    def first(self, function: str, later: int = 0) -> int:
        return [i for i, each in enumerate(self.cases) if each["function"] == function][later]

    def add(self, name: str, of: int, error: str, **arguments: Any) -> None:
        made: dict[str, Any] = {"name": name, "of": of, "error": error}
        if "payload" in arguments:
            payload = arguments.pop("payload")
            made |= patch(self.cases[of]["arguments"]["payload"], payload)
            assert expanded(self.cases, {**made, "arguments": {}})["arguments"]["payload"] == payload
        made["arguments"] = arguments
        body = {key: value for key, value in expanded(self.cases, made).items() if key != "sha256"}
        self.made.append({**made, "sha256": hash_of_case(body)})

    def catching_up(self) -> None:
        of, two, about = self.first("catch_up"), NAMES[2:], statement()
        three = [*two, "clinic-1"]
        longer = statement(model_after=package.model_ids(MODEL + bytes(4), b"", 1, b"")["open"])
        for name, payload, error in (
            ("one-fewer", newest(about, two[:1]), FEW),
            ("one-of-them-twice", newest(about, [two[0], two[0]]), FEW),
            ("nobody", newest(about, []), FEW),
            ("another-model", newest(about, two, MODEL[:-4] + bytes(4)), OTHER),
            ("a-longer-model", newest(longer, two, MODEL + bytes(4)), MALFORMED),
            ("another-round", newest(about, two, round=4), REFUSED),
            ("another-attempt", newest(about, two, attempt=1), REFUSED),
            ("another-sum", newest(about, two, sum_hash=bytes(32)), REFUSED),
            ("a-stranger", newest(about, [two[0], "clinic-9"]), "InvalidInput"),
            ("in-anothers-name", newest(about, [two[0], "clinic-1"], keys=two), REFUSED),
            (
                "with-one-more-that-does-not-hold",
                newest(about, three, keys=[*two, two[0]]),
                REFUSED,
            ),
            ("a-tag-of-nine-bytes", newest(about, two, sum_tag=bytes(9)), MALFORMED),
            ("round-zero", newest(about, two, round=0), MALFORMED),
        ):
            self.add(f"catch-up-{name}", of, error, payload=payload)
        self.add("catch-up-another-session", of, OTHER, **ELSEWHERE)
        unprotected = {"configuration_hash": NONE, "scheme": "none"}
        self.add("catch-up-another-configuration", of, OTHER, **unprotected)
        sealed = {"configuration_hash": CKKS, "scheme": "ckks"}
        self.add("catch-up-a-model-that-is-sealed", of, "UnexpectedMessage", **sealed)
        of, about = self.first("catch_up", 1), statement(configuration_hash=ONE)
        away = [name for name in NAMES if name not in COHORT]
        for name, signers, error in (
            ("not-of-the-cohort", [*COHORT[:2], *away], "InvalidInput"),
            ("one-fewer-of-the-cohort", COHORT[:2], FEW),
        ):
            self.add(f"catch-up-{name}", of, error, payload=newest(about, signers))

    def confirmations(self) -> None:
        of = self.first("confirmations")
        stranger = [*confirmed(NAMES[:2]), ["clinic-9", confirmed(NAMES[2:3])[0][1]]]
        for name, error, changes in (
            ("one-fewer", FEW, {"confirmed": confirmed(NAMES[:2])}),
            ("one-of-them-twice", FEW, {"confirmed": confirmed([*NAMES[:2], NAMES[0]])}),
            ("a-stranger", "InvalidInput", {"confirmed": stranger}),
            ("of-another-commitment", REFUSED, {"commitment": bytes(32)}),
            ("of-another-session", REFUSED, ELSEWHERE),
        ):
            self.add(f"confirmations-{name}", of, error, **changes)

    def plain_sums(self) -> None:
        of = self.first("plain_sum_taken")
        context = self.cases[of]["arguments"]["context"]
        swapped = ("clinic-3", "clinic-1", "clinic-4")
        for name, payload, error in (
            ("of-another-round", plain_of_five(bytes(32)), OTHER),
            ("out-of-order", plain_of_five(context, swapped), MALFORMED),
            ("of-a-stranger", plain_of_five(context, ("clinic-1", "clinic-3", "clinic-9")), MALFORMED),
            ("not-finite", plain_of_five(context, total=[1.5, float("inf"), 0.0, 1.0, 2.0]), MALFORMED),
            ("shorter", plain_of_five(context, total=[1.5]), MALFORMED),
            ("by-another", plain_of_five(context, identity=package.identity_of("clinic-1")), REFUSED),
        ):
            self.add(f"plain-sum-{name}", of, error, payload=payload)

    def accounts(self) -> None:
        of = self.first("account")
        packed = self.cases[of]["arguments"]["packed"]
        records = [packed[at : at + 74] for at in range(0, len(packed), 74)]
        third = records[1][:7] + b"\x03" + records[1][8:]
        for name, changed, error in (
            ("cut-short", packed[:73], MALFORMED),
            ("a-round-left-out", records[0] + records[3], OTHER),
            ("an-attempt-after-completion", b"".join([*records[:2], third]), OTHER),
            ("not-from-the-first", records[2], OTHER),
            ("in-another-spelling", packed[:8] + b"\x02" + packed[9:74], MALFORMED),
            ("round-zero", bytes(4) + packed[4:74], MALFORMED),
        ):
            self.add(f"account-{name}", of, error, packed=changed)


def patch(whole: bytes, payload: bytes) -> dict[str, Any]:
    """Return what a payload has elsewhere than the genuine one; both are padded to look like long ones."""
    return shortest(payload + bytes(1024), whole + bytes(1024))


def expanded(cases: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> dict[str, Any]:
    """Return a failing case whole.

    Args:
        cases: Those of rounds.json.
        made: The case, as the file has it.
    """
    of = cases[made["of"]]
    arguments = {**of["arguments"], **made["arguments"]}
    if "replace" in made:
        whole, payload, done = of["arguments"]["payload"], b"", 0
        for offset, removed, inserted in made["replace"]:
            payload += whole[done:offset] + inserted
            done = offset + removed
        arguments["payload"] = payload + whole[done:]
    whole_case = {"name": made["name"], "function": of["function"], "arguments": arguments}
    return {**whole_case, "error": made["error"], "sha256": made.get("sha256", b"")}


def hash_of_case(body: Mapping[str, Any]) -> bytes:
    """Return what a failing case is under: what fails would fail with another wrong byte as well."""
    return hashlib.sha256(encode(body)).digest()


def make_all() -> dict[str, dict[str, Any]]:
    """Return file name to content."""
    files = genuine.make_all()
    maker = Maker(files[genuine.ROUNDS]["cases"])
    maker.catching_up()
    maker.confirmations()
    maker.plain_sums()
    maker.accounts()
    what = "What must be refused: number `of` of rounds.json with other arguments, or bytes of its payload"
    return {**files, FAILING: {"what": what, "cases": maker.made}}


def main() -> int:
    if "--write" not in sys.argv[1:]:
        print("nothing is overwritten without --write", file=sys.stderr)
        return 2
    genuine.ROOM.mkdir(parents=True, exist_ok=True)
    for name, content in make_all().items():
        (genuine.ROOM / name).write_text(to_text(content), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
