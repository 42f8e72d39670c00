"""The live view of a terminal: what stands where, the newest lines, and nothing where nobody looks."""

import io
import logging
from collections.abc import Sequence

import pytest
from rich.console import Console

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.work.running.live_view import LINES, LiveView, Row
from fedapt_secure.config.structured_log import LOGGERS

LOGGER = logging.getLogger("fedapt_client")


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> None:
    before = [(logging.getLogger(name), logging.getLogger(name).handlers) for name in LOGGERS]
    LOGGER.setLevel(logging.INFO)
    yield
    for logger, handlers in before:
        assert logger.handlers == handlers
    LOGGER.setLevel(logging.NOTSET)


def terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def facts() -> Sequence[Row]:
    return [("now", "training, [bold]round 2"), ("rounds", (2, 5))]


def test_facts_bars_and_the_newest_lines() -> None:
    console = terminal()
    with LiveView("clinic-[1]", facts, console=console) as view:
        assert view.shown
        for number in range(LINES + 3):
            LOGGER.info("line %d", number, extra={"round": number})
    shown = text(console)
    assert "clinic-[1]" in shown
    assert "training, [bold]round 2" in shown, "nothing of a name is markup"
    assert "2 of 5" in shown
    assert f"line {LINES + 2}  round={LINES + 2}" in shown
    assert "line 0" not in shown.rpartition("╭")[2]


def test_nothing_where_nobody_looks() -> None:
    asked: list[int] = []

    def counted() -> Sequence[Row]:
        asked.append(1)
        return facts()

    piped = Console(file=io.StringIO(), force_terminal=False)
    unwanted = LiveView("x", counted, wanted=False, console=terminal())
    for view in (LiveView("x", counted, console=piped), unwanted):
        with view:
            assert not view.shown
            with view.paused():
                pass
    assert not asked
    assert not text(piped)


def test_a_file_that_is_being_replaced_leaves_what_was_shown() -> None:
    answers = [facts(), InvalidInput("cannot be read"), InvalidInput("cannot be read")]

    def failing() -> Sequence[Row]:
        found = answers.pop(0) if answers else facts()
        if isinstance(found, InvalidInput):
            raise found
        return found

    console = terminal()
    with LiveView("x", failing, every_s=0.0, console=console) as view:
        for _ in range(3):
            view._render()
    assert "2 of 5" in text(console).rpartition("╭")[2]


def test_it_makes_room_for_a_question() -> None:
    console = terminal()
    with LiveView("x", facts, console=console) as view:
        with view.paused():
            assert not view._live.is_started
            console.print("agree?")
        assert view._live.is_started
    assert "agree?" in text(console)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_any_width(width: int) -> None:
    console = terminal(width)
    with LiveView("a party with a long name", facts, console=console):
        LOGGER.info("a line that is longer than a narrow terminal is wide, by far and without an end")
    assert "round" in text(console)
