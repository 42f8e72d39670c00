"""Inputs that are small as bytes and large once decoded cost little: a part of `decoding_bombs`, at 1 MiB."""

from collections.abc import Iterator

import pytest

from fedapt_crypto.decoding_cost import MAX_ITEMS, SHORT_BYTES, json_fits, msgpack_fits
from fedapt_crypto.encoding import Message, encode
from fedapt_secure.protocol.session import SessionConfiguration
from tests.fuzz import bombs
from tests.fuzz.decoders import DECODERS, message_classes
from tests.fuzz.decoding_bombs import MEMORY_FACTOR, MIB, SPARE_BYTES, Cost, measure, targets

HERE = (
    "from-institution",
    "from-coordinator",
    "from-applicant",
    "session-configuration",
    "message-RosterFile",
    "message-SumDelivery",
    "log-line",
    "log-witnessed",
    "roster for people",
    "rounds",
    "parcels",
    "text files of enrolment",
    "join string",
    "revocation list",
    "certificate",
)
LONG = ("from-coordinator", "from-institution", "message-RosterFile")
"""Whose bombs are much like those of others here, and take long."""
WORST = (
    "empty maps",
    "arrays of one",
    "(0)",
    "(8)",
    "wide",
    "unknown",
    "empty objects",
    "many keys",
    "rounds",
)
"""What to try of each target here; the command tries all."""


def some(names: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for name, data in names:
        if any(part in name for part in WORST) or ("of many" not in name and "rows of" not in name):
            yield name, data


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) if one in LONG else one for one in HERE]
)
def test_a_bomb_costs_little(name: str) -> None:
    target = targets()[name]
    tried, dear = 0, []
    for bomb, data in some(target.bombs(min(target.largest, MIB))):
        cost, tried = measure(target.decode, data), tried + 1
        if not cost.holds(len(data)):
            dear.append((bomb, len(data), cost))
    assert tried
    assert not dear


def test_what_the_limit_is() -> None:
    size = 10 * MIB
    limit = MEMORY_FACTOR * size + SPARE_BYTES
    assert Cost(limit, 2.0, "").holds(size)
    assert not Cost(limit + 1, 0.0, "").holds(size)
    assert not Cost(0, 2.1, "").holds(size)


def test_memory_is_really_measured() -> None:
    cost = measure(lambda data: [bytes([1]) * (50 * MIB)], b"")
    # The kernel counts resident pages by processor and adds them up late: some dozens are missing.
    assert 48 * MIB <= cost.memory_bytes < 60 * MIB
    assert cost.outcome == "accepted"


def test_an_error_that_is_not_ours_is_raised() -> None:
    def fail(data: bytes) -> object:
        raise KeyError(data)

    with pytest.raises(AssertionError, match="KeyError"):
        measure(fail, b"")


def test_a_message_of_a_test_changes_nothing() -> None:
    before = message_classes()
    kept = type("Sized", (SessionConfiguration,), {"__module__": __name__})
    assert kept in SessionConfiguration.__subclasses__()
    assert message_classes() == before
    assert SessionConfiguration in before


def test_every_message_is_a_target() -> None:
    names = {name for name in targets() if name.startswith("message-")}
    assert names == {f"message-{cls.__name__}" for cls in message_classes()}
    assert {"message-SumDelivery", "message-JoinString", "message-PlainSum", "message-Hello"} <= names
    assert set(DECODERS) - {"shares", "pair-seed", "records"} <= set(
        targets()
    )  # one length each; a test's own


class TestCounting:
    """What is counted before decoding; what fits is left to the decoder."""

    @pytest.mark.parametrize("size", [SHORT_BYTES + 1, MIB])
    def test_empty_maps(self, size: int) -> None:
        for name, data in bombs.msgpack_bombs(size):
            if name == "rows of empty maps":
                assert msgpack_fits(data) == (size < MIB)

    @pytest.mark.parametrize("item", [0, 1.5, "ab", b"ab", None, (), (0,), {}, {"a": 0}], ids=str)
    def test_few_of_them_fit_and_many_do_not(self, item: object) -> None:
        assert msgpack_fits(encode([bytes(MIB), *[item] * 20_000]))
        assert not msgpack_fits(encode([bytes(MIB), *[item] * MAX_ITEMS]))

    def test_the_largest_real_ones_fit(self) -> None:
        head = {
            "hash": bytes(32), "log": bytes(16), "party": "clinic-4096", "seq": 10**17, "signature": bytes(64)
        }  # fmt: skip
        witnessed = {"round": 10**6, "session": bytes(16), "signed": head}
        names = ("n" * 64,) * 4096
        assert msgpack_fits(encode({"heads": (head,) * 4096, "dropped": names, "contributors": names}))
        assert msgpack_fits(encode({"witnessed": (witnessed,) * 4096}))

    def test_long_bytes_fit_and_wide_text_does_not(self) -> None:
        assert msgpack_fits(encode({"model": bytes(32 * MIB)}))
        assert msgpack_fits(encode({"values": "a" * MIB}))
        assert not msgpack_fits(encode({"values": "a" * (4 * MIB) + "\U00010000"}))

    @pytest.mark.parametrize("code", [0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8])
    def test_extensions_never_fit(self, code: int) -> None:
        assert not msgpack_fits(b"\x92" + bytes((code,)) + bytes(SHORT_BYTES))

    def test_json_of_real_size_fits(self) -> None:
        entry = '{"hash":"%064x","log":"%032x","party":"clinic-%d","seq":%d,"signature":"%0128x"}'
        body = "[" + ",".join(entry % (at, at, at, at, at) for at in range(4096)) + "]"
        assert json_fits(body.encode())
        domains = "[" + ",".join(f'"{"ä" * 40}{at}"' for at in range(4096)) + "]"
        assert json_fits(domains.encode().replace("ä".encode(), rb"\u00e4"))


def test_validation_ends_at_the_first_item_that_does_not_hold() -> None:
    """All arrays of all messages: thousands of errors of a kilobyte each are another way to use memory."""

    def arrays(schema: object) -> Iterator[dict[str, object]]:
        if isinstance(schema, dict):
            if schema.get("type") in ("tuple", "list"):
                yield schema
            for inner in schema.values():
                yield from arrays(inner)
        elif isinstance(schema, (list, tuple)):
            for inner in schema:
                yield from arrays(inner)

    found = [(cls, array) for cls in message_classes() for array in arrays(cls.__pydantic_core_schema__)]
    assert len({cls for cls, _ in found}) > 10
    assert all(array.get("fail_fast") for _, array in found)
    assert all(issubclass(cls, Message) for cls, _ in found)
