"""What operators read on standard error: one line each, nothing breaks out of it."""

import json
import logging

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.structured_log import LOGGERS, configure


@pytest.fixture(autouse=True)
def undo():
    yield
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [logging.NullHandler()], True
        logger.setLevel(logging.NOTSET)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=False)
    extra = {
        "event": "round_joined",
        "round": 3,
        "institution": "clinic-1",
        "reason": 'two "words"',
        "x": None,
    }
    logging.getLogger("fedapt_client").info("round %d joined", 3, extra=extra)
    [line] = lines(capsys)
    time, rest = line.split(" ", 1)
    assert len(time) == 8
    assert rest == 'INFO round 3 joined  round=3 institution=clinic-1 reason="two \\"words\\""'


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=True)
    extra = {"event": "round_joined", "round": 3, "institution": "clinic-1", "names": ["a"], "level": "no"}
    logging.getLogger("fedapt_server.x").warning("round joined", extra=extra)
    [line] = lines(capsys)
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "warning", "event": "round_joined", "message": "round joined", "round": 3,
        "institution": "clinic-1", "names": ["a"],
    }  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_breaks_out_of_its_line(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure(json=as_json)
    nasty = "a\nb\r\x1b[31m\u2028=1"
    logging.getLogger("fedapt_server").info(nasty, extra={"event": nasty, "reason": nasty})
    [line] = lines(capsys)
    assert line.isprintable()


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_named_and_not_traced(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure(json=as_json)
    try:
        raise KeyError("secret")
    except KeyError:
        logging.getLogger("fedapt_server").exception("failed")
    [line] = lines(capsys)
    assert "failed: KeyError" in line
    assert "secret" not in line


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=False, level="warning")
    logging.getLogger("fedapt_server").info("no")
    logging.getLogger("fedapt_server").warning("yes")
    logging.getLogger("somebody.else").error("not ours")
    assert len([line for line in lines(capsys) if "yes" in line or "no" in line.split()]) == 1
    with pytest.raises(InvalidInput, match="use debug, info, warning"):
        configure(json=False, level="loud")


def test_a_reader_that_has_gone_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(json=False)

    class Gone:
        def write(self, text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    logging.getLogger("fedapt_server").info("hello")
