"""What parties of a simulation share: results of pure functions, found by all that went in."""

import pytest

from fedapt_crypto.encoding import Message, TaggedMessage, decode_one_of, kinds_of
from fedapt_crypto.errors import MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.sharing import MAX_RESULTS, checked, shared, sharing


class News(TaggedMessage):
    kind: str = "news"
    same_for_all = True
    text: str


class Letter(Message):
    text: str


@pytest.fixture
def signed() -> tuple[bytes, bytes]:
    identity = Identity.generate()
    return identity.public_key, identity.sign("test", b"text", 7)


def test_a_good_signature_does_not_make_another_one_good(signed: tuple[bytes, bytes]) -> None:
    key, signature = signed
    other_key = Identity.generate().public_key
    with sharing():
        for _ in range(2):
            verify(key, signature, "test", b"text", 7, signer="a")
            for bad in (
                (other_key, signature, "test", b"text", 7),
                (key, signature[:-1] + bytes([signature[-1] ^ 1]), "test", b"text", 7),
                (key, signature, "tes", b"text", 7),
                (key, signature, "test", b"texT", 7),
                (key, signature, "test", b"text", 8),
                (key, signature + b"\0", "test", b"text", 7),
                (key[:-1], signature, "test", b"text", 7),
            ):
                with pytest.raises(VerificationFailed):
                    verify(*bad, signer="a")  # type: ignore[arg-type]


def test_a_refused_signature_is_refused_again_in_the_name_of_its_signer(signed: tuple[bytes, bytes]) -> None:
    key, _ = signed
    with sharing():
        for signer in ("clinic-1", "clinic-2"):
            with pytest.raises(VerificationFailed) as refused:
                verify(key, bytes(64), "test", signer=signer)
            assert refused.value.peer == signer


def test_each_check_is_made_once_and_only_while_sharing() -> None:
    made = []

    def check() -> None:
        made.append(1)

    for _ in range(2):
        checked(b"key", b"signature", b"message", check)
    assert len(made) == 2, "off: everybody checks"
    with sharing():
        for _ in range(3):
            checked(b"key", b"signature", b"message", check)
    assert len(made) == 3
    with sharing():
        checked(b"key", b"signature", b"message", check)
    assert len(made) == 4, "nothing is left of an earlier block"


def test_errors_are_not_kept() -> None:
    answers = iter([ValueError("once"), "good"])

    def work() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with sharing():
        with pytest.raises(ValueError, match="once"):
            shared("a", b"data", work)
        assert shared("a", b"data", work) == "good"


def test_results_are_told_apart_by_kind_and_data_and_the_oldest_goes() -> None:
    with sharing():
        assert shared("a", b"1", lambda: "a1") == "a1"
        assert shared("b", b"1", lambda: "b1") == "b1"
        assert shared("a", b"2", lambda: "a2") == "a2"
        assert shared("a", b"1", lambda: "other") == "a1"
        for number in range(MAX_RESULTS):
            shared("many", bytes([number]), lambda: "x")
        assert shared("a", b"1", lambda: "anew") == "anew"


def test_sharing_does_not_nest() -> None:
    with sharing(), pytest.raises(RuntimeError), sharing():
        pass
    with sharing():
        pass


def test_a_message_for_all_is_parsed_once_and_any_other_each_time() -> None:
    kinds, data = kinds_of(News), News(text="all").to_bytes()
    with sharing():
        first = decode_one_of(data, kinds, max_bytes=1000)
        assert decode_one_of(bytes(bytearray(data)), kinds, max_bytes=1000) is first
        assert News.from_bytes(data) is first
        assert News.from_bytes(News(text="alL").to_bytes()).text == "alL"
        letter = Letter(text="one").to_bytes()
        assert Letter.from_bytes(letter) is not Letter.from_bytes(letter)
    assert News.from_bytes(data) is not News.from_bytes(data)
    assert News.from_bytes(data) == first


def test_a_size_limit_and_strictness_hold_for_what_somebody_else_has_parsed() -> None:
    data = News(text="all").to_bytes()
    with sharing():
        News.from_bytes(data)
        with pytest.raises(MalformedMessage):
            News.from_bytes(data, max_bytes=len(data) - 1)
        for _ in range(2):
            with pytest.raises(MalformedMessage):
                News.from_bytes(data + b"\0")


def test_what_is_small_is_kept_for_thousands() -> None:
    with sharing():
        for number in range(MAX_RESULTS + 1000):
            shared("small", number.to_bytes(4), lambda: "first", small=True)
        assert shared("small", bytes(4), lambda: "anew", small=True) == "first"
