"""Turns, spreads, targets, the shares of a timeline, and the page made of results."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks import suite
from benchmarks.harness import (
    MOST_CALLS,
    Result,
    Spread,
    Table,
    Target,
    figure,
    fitted_exponent,
    in_turns,
    parse_result,
    resident_peak_mib,
)
from benchmarks.pages import benchmarks_page as page
from benchmarks.protocol.timeline import IDLE, WAITING, Timeline

RESULT = Result(
    "training_step",
    "A step",
    "What it is.",
    tables=[Table("", ["a", "b"], [["1", "2"]])],
    targets=[
        Target("speed", 6.0, 12.0),
        Target("memory", 10.0, 12.5, at_most=True, why_missed="it is large"),
    ],
    raw={"seconds": [1.0, 2.0]},
)


def test_contenders_take_turns_and_change_places() -> None:
    calls: list[str] = []
    seconds = in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    often = MOST_CALLS  # they are short
    assert calls == ["a", "b", *["a"] * often, *["b"] * often, *["b"] * often, *["a"] * often]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_a_spread_shows_median_least_and_most() -> None:
    assert Spread.of([3.0, 1.0, 2.0]).text() == "2 (1 to 3)"
    assert Spread.of([0.5]).text(1000) == "500"
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.01234, "0.0123"), (12345.6, "12,346"), (99.4, "99.4")]
)
def test_figures_are_short(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_an_exponent_is_found() -> None:
    assert fitted_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_a_missed_target_says_by_how_much_and_why() -> None:
    met, missed = RESULT.targets
    assert met.row() == ["speed", "≥ 6×", "12×", "met"]
    assert missed.row()[-1] == "missed by 25%: it is large"
    assert Target("exactly", 6.0, 6.0).met
    assert Target("exactly", 6.0, 6.0, at_most=True).met
    assert not Target("not a number", 6.0, float("nan")).met


def test_a_result_survives_its_file() -> None:
    fields = json.loads(RESULT.to_json())
    assert parse_result(fields) == RESULT
    assert fields["machine"]["python"].startswith("Python 3")


def test_the_peak_of_memory_is_the_most_that_was_held() -> None:
    assert 60 < resident_peak_mib(lambda: np.ones(8 << 20).sum()) < 120  # 64 MiB, given back at once


def test_the_parts_of_a_timeline_add_up(monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr("benchmarks.protocol.timeline.time.time", lambda: now)
    timeline = Timeline()

    def at(moment: float, step, *arguments: str) -> None:
        nonlocal now
        now = moment
        step(*arguments)

    def elsewhere(moment: float) -> None:
        thread = threading.Thread(target=at, args=(moment, timeline.enter, "training"))
        thread.start()
        thread.join()

    at(1.0, timeline.enter, "network")
    at(3.0, timeline.enter, IDLE)
    elsewhere(4.0)  # alone from here on
    at(6.0, timeline.leave)  # two at once
    at(8.0, timeline.leave)
    found = timeline.shares([(0.0, 10.0)])
    assert found == {WAITING: 2.0, "network": 3.0, "training": 5.0}
    assert timeline.shares([(4.0, 5.0), (6.0, 7.0)]) == {"training": 1.5, "network": 0.5}


def test_what_was_wrapped_is_put_back() -> None:
    class Worker:
        def work(self, number: int) -> int:
            return number + 1

    plain, timeline = Worker.work, Timeline()
    timeline.wrap(Worker, "work", "training")
    assert Worker().work(1) == 2
    assert Worker.work is not plain
    timeline.restore()
    assert Worker.work is plain
    with pytest.raises(AttributeError):
        timeline.wrap(Worker, "gone", "training")


class TestThePage:
    def test_shows_what_the_results_say(self) -> None:
        text = page.PAGE.read_text(encoding="utf-8")
        assert page.renewed(text) == text, "run python -m benchmarks.pages.benchmarks_page"

    def test_changes_with_a_result(self, tmp_path: Path) -> None:
        (tmp_path / "training_step.json").write_text(RESULT.to_json())
        text = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
        found = page.renewed(text, tmp_path)
        assert "| memory | ≤ 10× | 12.5× | missed by 25%: it is large |" in found
        assert found.startswith("before\n")
        assert found.endswith("\nafter\n")
        assert "old" not in found
        assert page.renewed(found, tmp_path) == found

    def test_takes_no_quick_results(self, tmp_path: Path) -> None:
        fields = json.loads(RESULT.to_json()) | {"quick": True}
        (tmp_path / "training_step.json").write_text(json.dumps(fields))
        with pytest.raises(SystemExit, match="quick"):
            page.renewed(f"{page.BEGIN}{page.END}", tmp_path)

    def test_needs_its_place(self) -> None:
        with pytest.raises(SystemExit, match="no place"):
            page.renewed("nothing here")

    def test_shows_all_of_the_suite(self) -> None:
        assert set(page.ORDER) == set(suite.BENCHMARKS)


class TestTheSuite:
    def test_says_what_it_has_no_result_of(self, tmp_path: Path, capsys) -> None:
        assert suite.main(["--out", str(tmp_path), "--only", "wire", "--budget-s", "0", "--quick"]) == 1
        assert "wire: no time was left" in capsys.readouterr().out

    def test_collects_the_targets(self, tmp_path: Path) -> None:
        (tmp_path / "training_step.json").write_text(RESULT.to_json())
        assert [row[:2] for row in suite.targets(tmp_path).rows] == [
            ["training_step", "speed"],
            ["training_step", "memory"],
        ]

    def test_keeps_no_quick_results_for_the_page(self, capsys) -> None:
        with pytest.raises(SystemExit):
            suite.main(["--quick"])
        assert "--out" in capsys.readouterr().err
