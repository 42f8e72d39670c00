"""Every vector through the package and through the reference, and proof that a changed vector is noticed."""

import copy
import hashlib
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto import seal
from fedapt_secure.protocol.joining.enrolment import challenge_info
from tests.crypto.vectors import (
    checks,
    make_round,
    make_vectors,
    package,
    package_enrolment,
    recorded,
    reference,
    reference_graph,
)
from tests.crypto.vectors.recorded import FOLDER, freeze, thaw

FILES = (*checks.CASES, "ckks.json", "round.json", "failing.json", "failing_enrolment.json")
UNCHECKED = {"what"}
"""Keys whose value is for the reader only."""
NAMED = {
    "overlapping-unmask-lists",
    "wrong-roster-key",
    "replayed-advertise",
    "truncated-share",
    "survivors-below-threshold",
    "swapped-merkle-siblings",
    "repeated-party",
    "left-out-of-survivors",
    "another-transcript",
    "too-few-signatures",
    "non-canonical-encoding",
    "oversized-message",
    "masked-input-hash",
    "key-out-of-range",
    "announced-sum-forged",
    "announced-tag-forged",
    "announced-sum-of-another-set",
    "announced-sum-unsigned",
    "announced-tag-beyond-the-field",
    "masked-tag-beyond-the-field",
    "group-secret-other-than-committed-to",
    "group-secret-of-another-session",
    "group-secret-from-a-stranger",
    "group-secret-boxes-swapped",
    "sum-nothing",
    "sum-negated",
    "sum-doubled",
    "sum-value-out-of-range",
    "enrolment-signature-s-beyond-the-order",
    "enrolment-signature-cofactored-key",
    "enrolment-identity-of-small-order-7",
    "enrolment-entry-with-another-sealing-key",
    "enrolment-request-of-another-token",
    "enrolment-renewal-of-another-connection",
    "enrolment-answer-to-another-request",
    "enrolment-roster-with-a-swapped-sealing-key",
}
"""Failing cases that there must be."""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner), max_leaves=40
)

ROUND = recorded.load("round.json")
FAILING = [*recorded.load("failing.json")["cases"], *recorded.load("failing_enrolment.json")["cases"]]


def cases_of(name: str) -> list[Any]:
    cases = recorded.load(name)["cases"]
    return [pytest.param(case, id=f"{name[:-5]}-{i}-{case['function']}") for i, case in enumerate(cases)]


@pytest.mark.parametrize("implementation", checks.IMPLEMENTATIONS.values(), ids=checks.IMPLEMENTATIONS)
@pytest.mark.parametrize("case", [case for name in checks.CASES for case in cases_of(name)])
def test_known_answer(case: dict[str, Any], implementation: SimpleNamespace) -> None:
    checks.check_case(implementation, case)


@pytest.mark.parametrize("case", FAILING, ids=[case["name"] for case in FAILING])
def test_refused(case: dict[str, Any]) -> None:
    checks.check_failing_case(case, ROUND)


class TestRound:
    def test_institutions_answer_what_was_recorded(self) -> None:
        checks.check_institutions(ROUND)

    def test_coordinator_delivers_what_was_recorded_and_has_the_sum(self) -> None:
        checks.check_coordinator(ROUND)

    def test_reference_recomputes_it(self) -> None:
        checks.check_reference(ROUND)

    def test_the_sum_is_that_of_the_survivors_updates(self) -> None:
        """Told from the updates alone, clipped at the end of the range, without the one that vanished."""
        end = (2**31 - 1) // 4 / 2**26  # between clip and twice that: fraction bits are whole
        vanished = ROUND["late"]["sender"]
        updates = [party["update"] for party in ROUND["parties"] if party["name"] != vanished]
        clipped = [[max(-end, min(end, value)) for value in update] for update in updates]
        assert ROUND["sum"] == pytest.approx([sum(column) for column in zip(*clipped, strict=True)], abs=1e-6)
        assert sum(party["saturated"] for party in ROUND["parties"]) == 1


class TestFiles:
    def test_all_of_them_are_there_and_small(self) -> None:
        assert sorted(path.name for path in FOLDER.glob("*.json")) == sorted(FILES)
        # parts of group secrets are hybrid ciphertexts of 1,168 bytes, twice that in hex, one a failing case
        assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 620_000

    def test_each_says_what_it_is(self) -> None:
        assert all(recorded.load(name)["what"] for name in FILES)

    def test_named_failing_cases(self) -> None:
        assert {case["name"] for case in FAILING} >= NAMED

    def test_each_function_of_the_key_schedule_has_a_case(self) -> None:
        cases = [case for name in checks.CASES for case in recorded.load(name)["cases"]]
        tried = {case["function"] for case in cases}
        assert tried >= {"mask_key", "pair_seed", "pair_mask_key", "self_mask_key", "commit"}
        assert tried >= {"self_tag_mask", "pair_tag_mask"}
        assert tried >= {"group_commitment", "group_offer", "group_open", "group_confirmed", "ckks_context"}
        assert tried >= {"execution_id", "transcript_id", "survivors_id"}
        assert tried >= {"domain_commitment", "domain_open", "domain_values"}
        assert tried >= {"sum_check_elements", "sum_check_pad", "sum_check_tag", "next_model"}
        assert tried >= {"entry_check", "request_check", "renewal_check", "certified_check", "roster_check"}

    def test_the_generator_still_makes_what_is_refused_of_enrolment(self) -> None:
        text = (FOLDER / make_vectors.FAILING_ENROLMENT).read_text(encoding="utf-8")
        assert text == make_vectors.to_text(make_vectors.refused_of_enrolment())

    @pytest.mark.parametrize("name", make_vectors.DETERMINISTIC)
    def test_the_generator_still_makes_them(self, name: str) -> None:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert text == make_vectors.to_text(make_vectors.make_topic(name))

    def test_a_new_round_differs_by_what_hpke_draws_alone(self) -> None:
        again = make_round.whole_round()
        alike = ("context", "parties", "sum", "sum_words", "contributors", "model", "next_model")
        for key in alike:
            assert freeze(again[key]) == freeze(ROUND[key])
        assert again["steps"][0] == ROUND["steps"][0]
        assert again["derived"]["execution"] == ROUND["derived"]["execution"]
        assert again["derived"]["transcript"] != ROUND["derived"]["transcript"]
        assert again["sum_tag"] != ROUND["sum_tag"]
        checks.check_reference(again)

    def test_nothing_is_overwritten(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        before = {path: path.read_bytes() for path in FOLDER.glob("*.json")}
        monkeypatch.setattr(sys, "argv", ["make_vectors"])
        assert make_vectors.main() == 2
        assert "--write" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in FOLDER.glob("*.json")} == before


class TestBeyondTheVectors:
    """Where an answer cannot be small, or many are worth trying, the two implementations agree."""

    @pytest.mark.parametrize("size", [0, 1, 32, 5000])
    def test_what_is_sealed_opens(self, size: int) -> None:
        root, request_hash = bytes(range(32)), hashlib.sha256(b"request").digest()
        info = challenge_info(request_hash)
        sealed = seal.seal(reference.sealing_key(root), bytes(size), *info)
        assert len(sealed) == 1120 + size + 16
        assert reference.open_sealed(root, sealed, ["enrolment challenge", request_hash]) == bytes(size)

    @pytest.mark.parametrize("n", [*range(65, 120, 7), 257, 401])
    def test_graphs_of_other_sizes(self, n: int) -> None:
        assert package_enrolment.graph_sizes(n) == reference_graph.graph_sizes(n)

    @given(VALUES)
    def test_any_value_encodes_alike(self, value: Any) -> None:
        encoded = reference.encode(value)
        assert package.encode(value) == encoded
        assert reference.decode(encoded) == value
        assert package.decode(reference.encode({"value": value}))

    @pytest.mark.parametrize("size", [14, 15, 16, 17, 30, 31, 32, 33, 255, 256, 4096])
    def test_containers_at_the_borders_of_their_headers(self, size: int) -> None:
        for item in (0, b"x", [1, [2]], {"b": [], "a": b""}):
            some = {f"{i:04}": item for i in range(size)}
            mixed = some | {f"{i:04}": [{"c": i}] for i in range(7, size, 11)}
            for value in ([item] * size, some, mixed):
                assert package.encode(value) == reference.encode(value)
                if isinstance(value, list) or size <= 64:  # more than any message's map has is not decoded
                    assert package.decode(reference.encode({"value": value}))

    @pytest.mark.parametrize("size", [(1 << 16) - 1, 1 << 16, (1 << 16) + 1, 1 << 18])
    def test_long_byte_strings(self, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert package.encode({"b": data, "a": data}) == reference.encode({"b": data, "a": data})
        assert package.digest("label", ["first", data, 3]) == reference.digest("label", ["first", data, 3])
        assert package.digest("label", [["first", data]]) == reference.digest("label", [["first", data]])

    @given(st.sets(st.integers(1, 5000), min_size=1, max_size=12), st.binary(min_size=32, max_size=32))
    def test_any_points_weigh_alike(self, points: set[int], secret: bytes) -> None:
        indices = sorted(points, key=str)
        assert package.weights_at_zero(indices) == reference.weights_at_zero(indices)
        drawn = make_round.coefficients(len(indices) - 1, secret)
        shares = package.split(secret, len(indices), indices, drawn)
        assert shares == reference.split(secret, len(indices), indices, drawn)
        assert reference.combine(list(zip(indices, shares, strict=True))) == secret

    @pytest.mark.parametrize("count", [*range(5, 34), 64, 65, 100])
    def test_longer_lists_have_the_same_tree(self, count: int) -> None:
        leaves = [bytes([i]) * (i % 5) for i in range(count)]
        assert package.merkle_tree(leaves) == reference.merkle_tree(leaves)

    @given(st.integers(1, 5000), st.floats(1e-6, 1e4), st.lists(st.floats(-1e9, 1e9), max_size=9))
    def test_any_numbers_are_the_same_words(self, summands: int, clip: float, values: list[float]) -> None:
        encoded = package.fixed_encode(summands, clip, values)
        assert encoded == reference.fixed_encode(summands, clip, values)
        decoded = package.fixed_decode(summands, clip, encoded["words"])
        assert decoded == reference.fixed_decode(summands, clip, encoded["words"])


# Changed vectors: one change at every place of every file, each of which both a check of the package and,
# where the reference covers the file, one of the reference must notice.


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every leaf that a check must depend on."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if key in UNCHECKED or item is None:
            continue
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


def flipped(value: Any, salt: str) -> Any:
    """Return something else of the same type; of bytes, with one bit flipped where ``salt`` says."""
    place = int.from_bytes(hashlib.sha256(salt.encode()).digest())
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return 2.0**20 if value < 0 else -(2.0**20)  # another word even where both are clipped
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if not value:
        return b"\x00"
    place %= len(value)
    return value[:place] + bytes([value[place] ^ 1 << place % 8]) + value[place + 1 :]


def changed(content: Any, path: tuple[Any, ...]) -> Any:
    """Return a copy with one leaf flipped."""
    made = copy.deepcopy(content)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = flipped(inside[path[-1]], str(path))
    return made


def notices(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Exception:
        return True
    return False


@pytest.mark.parametrize("name", checks.CASES)
def test_every_changed_place_of_a_case_is_noticed(name: str) -> None:
    for number, case in enumerate(recorded.load(name)["cases"]):
        for path in places(case):
            wrong = changed(case, path)
            for what, implementation in checks.IMPLEMENTATIONS.items():
                assert notices(checks.check_case, implementation, wrong), f"{name} {number} {path}: {what}"


@pytest.mark.parametrize("case", FAILING, ids=[case["name"] for case in FAILING])
def test_every_changed_place_of_a_failing_case_is_noticed(case: dict[str, Any]) -> None:
    for path in places(case):
        assert notices(checks.check_failing_case, changed(case, path), ROUND), path


@pytest.mark.parametrize("part", [key for key in ROUND if key not in UNCHECKED])
def test_every_changed_place_of_the_round_is_noticed(part: str) -> None:
    for path in places({part: ROUND[part]}):
        wrong = changed(ROUND, path)
        assert notices(checks.check_reference, wrong), f"{path}: reference"
        assert notices(checks.check_coordinator, wrong) or notices(checks.check_institutions, wrong), (
            f"{path}: package"
        )


def test_vectors_survive_reading_and_writing() -> None:
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert make_vectors.to_text(thaw(json.loads(text))) == text
