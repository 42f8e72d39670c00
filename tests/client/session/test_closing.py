"""The account of a session's rounds: its order, and that a restart does not make an institution forget."""

import pytest

from fedapt_client.session.closing import Closing, in_order
from fedapt_crypto.errors import ContextMismatch
from fedapt_secure.log.heads import RoundRecord
from tests.protocol.federation import Federation

CONFIGURATION = Federation(3).configuration


def account(text: str) -> tuple[RoundRecord, ...]:
    """``1.1a 1.2c`` is a first attempt at round 1 that was aborted and a second one that was completed."""
    return tuple(
        RoundRecord(
            round=int(word[0]),
            attempt=int(word[2]),
            status="completed" if word[3] == "c" else "aborted",
            context=bytes([int(word[0]), int(word[2])]) * 16,
            transcript=bytes(32) if word[3] == "c" else None,
        )
        for word in text.split()
    )


@pytest.mark.parametrize("text", ["", "1.1c", "1.1a 1.2c", "1.1a 2.1c", "1.1a 1.2a 1.3c 2.1c 3.1a 3.2a"])
def test_in_order(text: str) -> None:
    assert in_order(account(text))


@pytest.mark.parametrize(
    "text",
    [
        "2.1c",  # begins late
        "1.2c",
        "1.1c 1.2c",  # a completed round is repeated
        "1.1c 1.2a",
        "1.1a 1.3c",  # an attempt is left out
        "1.1a 1.1c",  # one twice
        "1.1c 3.1c",  # a round is left out
        "1.1a 2.2c",
        "1.1c 2.1c 1.1c",  # goes back
    ],
)
def test_out_of_order(text: str) -> None:
    rounds = account(text)
    assert not in_order(rounds)
    with pytest.raises(ContextMismatch, match="not in order"):
        Closing().agree(CONFIGURATION, bytes(32), rounds)


def test_the_last_round_is_its_number_and_not_the_count_of_attempts() -> None:
    closing = Closing()
    closing.agree(CONFIGURATION, bytes(32), account("1.1a 1.2c 2.1c"))
    assert closing.last_round == 2
    assert closing.statement is not None
    assert closing.statement.completed_rounds == 2


def test_an_attempt_whose_end_was_not_seen_is_not_compared_and_one_that_was_is() -> None:
    closing = Closing()
    [seen] = account("1.2c")
    closing.rounds = {(1, 2): seen}
    closing.agree(CONFIGURATION, bytes(32), account("1.1a 1.2c"))
    for false in ("1.1a", "1.1c", "1.1a 1.2a"):
        with pytest.raises(ContextMismatch, match="is not what happened here"):
            closing.agree(CONFIGURATION, bytes(32), account(false))
