import io

from rich.console import Console

from fedapt_secure.cli.work.running.encoding_bar import EncodingBar


def shown(terminal: bool, *steps: tuple[int, int], wanted: bool = True) -> str:
    stream = io.StringIO()
    with EncodingBar(Console(file=stream, force_terminal=terminal, width=80), wanted=wanted) as bar:
        for done, total in steps:
            bar(done, total)
    return stream.getvalue()


def test_it_shows_how_far_it_is() -> None:
    assert "128/500" in shown(True, (64, 500), (128, 500))
    assert "7/9" in shown(True, (64, 500), (500, 500), (7, 9)), "the next session's images"


def test_it_is_silent_where_nobody_looks_or_nothing_is_to_be_done() -> None:
    assert shown(False, (64, 500)) == ""
    assert shown(True, (64, 500), wanted=False) == ""
    assert shown(True, (500, 500)) == ""
