"""What people and programs get to see: the table, the JSON object, the page."""

import html.parser
import io
import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedapt_secure.audit.findings import MAX_KEPT, Findings, Kind, Verdict, worst
from fedapt_secure.audit.judgement import Judgement, Point, audit
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import dossier
from fedapt_secure.audit.report.html import to_html
from fedapt_secure.audit.report.json_answer import to_fields
from fedapt_secure.audit.report.text import print_report
from fedapt_secure.pages.charts import epsilon_chart, nice_ticks
from tests.audit.harness import Federation, Terms, federation

VOID = {"meta", "br"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    return audit([federation(3).save(tmp_path_factory.mktemp("good"), simulated=True)])


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    folder = tmp_path_factory.mktemp("bad")
    made = federation(3, max_epsilon=5.0)
    made.logs["clinic-3"].write(
        "refused",
        {"round": 2, "rule": "max_epsilon", "error": "PolicyRefused", "detail": "<b>no</b> & never"},
    )
    made.save(folder)
    return audit([folder], folder / "roster.json")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    made = Federation(3, Terms(require_differential_privacy=False))
    made.session(1, private=False)
    return audit([made.save(tmp_path_factory.mktemp("plain"))])


def shown(judgement: Judgement, width: int = 80) -> str:
    stream = io.StringIO()
    print_report(Console(file=stream, width=width), judgement)
    return stream.getvalue()


class TestText:
    def test_the_verdict_comes_first(self, good: Judgement, bad: Judgement) -> None:
        assert shown(good).splitlines()[0] == "VERIFIED (self-attested)"
        assert shown(bad).splitlines()[0] == "VIOLATED"

    def test_nothing_is_cut_on_80_columns(self, good: Judgement, bad: Judgement) -> None:
        for judgement in (good, bad):
            text = shown(judgement)
            assert "…" not in text.split("ε of each institution")[1].split("witnessed up to")[0]
            assert all(len(line.rstrip()) <= 80 for line in text.splitlines())

    def test_what_it_holds(self, good: Judgement, bad: Judgement) -> None:
        text = " ".join(shown(good).split())
        assert "The records are unaltered up to the last witnessed head" in text
        assert re.search(
            r"the recorded parameters imply ε ≤ 5\.2\d\d at δ ≤ 2\.00e-03 for every data set", text
        )
        assert (
            "Not proved: that the recorded noise was applied; that no unrecorded training took place" in text
        )
        assert "self-attested: one operator held all keys and logs of this run." in text
        for column in ("budget", "planned", "spent", "recomputed", "margin", "rounds", "refused"):
            assert column in text
        wrong = " ".join(shown(bad).split())
        assert "VIOLATED clinic-1, clinic-1.jsonl line" in wrong
        assert "Identities: those of the roster given with --trust." in wrong

    def test_without_privacy_it_says_so(self, plain: Judgement) -> None:
        text = " ".join(shown(plain).split())
        assert "they imply no bound at all for clinic-1, clinic-2, clinic-3" in text

    def test_long_lists_end(self, good: Judgement) -> None:
        findings = Findings()
        for kind in Kind:
            for line in range(MAX_KEPT + 5):
                findings.tampered(kind, "clinic-1", "clinic-1.jsonl", line, "something")
        assert len(findings.kept) == MAX_KEPT * len(Kind)
        assert set(findings.counts.values()) == {MAX_KEPT + 5}

    def test_findings_of_one_kind_are_shown_once(self, tmp_path: Path) -> None:
        made = Federation(3)
        made.session(1, 6, steps=3)
        judgement = audit([made.save(tmp_path)])
        assert [(one.kind, more) for one, more in judgement.grouped] == [(Kind.PLAN, 1)] * 3
        assert shown(judgement).count("(and 1 more of this kind)") == 3


class TestJson:
    def test_it_is_json_and_says_what_the_table_says(self, good: Judgement, bad: Judgement) -> None:
        fields = json.loads(json.dumps(to_fields(good), allow_nan=False))
        assert fields == to_fields(good)
        assert fields["format"] == "fedapt-audit/1"
        assert (fields["verdict"], fields["identities"]) == ("VERIFIED", "roster beside the logs")
        assert fields["parties"][0]["party"] == "coordinator"
        (data_set,) = fields["parties"][1]["data_sets"]
        assert data_set["recomputed"] == data_set["recomputed_remove"] >= data_set["recomputed_add"] > 0
        assert len(data_set["sessions"]) == 2
        assert fields["rounds"] == {"source": "coordinator", "total": 6, "completed": 6}
        wrong = json.loads(json.dumps(to_fields(bad), allow_nan=False))
        assert wrong["verdict"] == "VIOLATED"
        assert {"verdict", "party", "file", "line", "kind", "detail"} == wrong["findings"][0].keys()
        assert wrong["parties"][3]["refusals"] == 1

    def test_without_privacy(self, plain: Judgement) -> None:
        assert [one["differential_privacy"] for one in to_fields(plain)["parties"]][1:] == [False] * 3


class Page(html.parser.HTMLParser):
    """Checks nesting and collects text, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, key, value) for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, key, value) for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(params=["good", "bad", "plain"])
def page(request: pytest.FixtureRequest) -> tuple[Judgement, str, Page]:
    judgement: Any = request.getfixturevalue(request.param)
    text = to_html(dossier(judgement, ["runs/a & b"], now=datetime(2026, 11, 23, 12, tzinfo=UTC)))
    return judgement, text, Page(text)


class TestPage:
    def test_it_loads_and_runs_nothing(self, page: tuple[Judgement, str, Page]) -> None:
        _, text, parsed = page
        assert not parsed.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a"}
        assert "url(" not in text
        assert "@import" not in text
        allowed = {"http://www.w3.org/2000/svg"}
        for _, key, value in parsed.attributes:
            assert not key.startswith("on")
            assert key not in {"src", "href", "srcset", "action"}
            assert "http" not in (value or "") or value in allowed
        assert "default-src 'none'" in text

    def test_it_holds_everything(self, page: tuple[Judgement, str, Page]) -> None:
        judgement, _, parsed = page
        text = parsed.text
        assert wording.headline(judgement) in text
        assert wording.not_proved() in text
        for heading in ("Institutions and their budgets", "Who took part", "What the words mean", "Hashes"):
            assert heading in text
        for party in judgement.parties:
            assert party.party in text
            assert all(log.last_line_hash in text for log in party.logs)
        for term, _ in wording.GLOSSARY:
            assert term in text
        assert ("ε against rounds" in text) == any(party.spends for party in judgement.parties)
        assert "2026-11-23 12:00 UTC" in text

    def test_findings_stand_at_the_top(self, bad: Judgement) -> None:
        text = Page(to_html(dossier(bad))).text
        assert text.index("What is wrong") < text.index("Institutions and their budgets")

    def test_what_a_log_says_is_text_and_never_markup(self, bad: Judgement) -> None:
        text = to_html(dossier(bad))
        assert "<b>no</b>" not in text
        assert "&lt;b&gt;no&lt;/b&gt; &amp; never" in text

    def test_every_chart_says_in_words_what_it_shows(self, good: Judgement) -> None:
        parsed = Page(to_html(dossier(good)))
        labels = [value for tag, key, value in parsed.attributes if (tag, key) == ("svg", "aria-label")]
        assert len(labels) == 3
        assert all(label and "ε grows to 5.2" in label and "a budget of 12" in label for label in labels)


class TestCharts:
    @given(st.floats(1e-6, 1e6))
    def test_ticks_are_few_round_and_reach_up(self, top: float) -> None:
        ticks = nice_ticks(top)
        assert 2 <= len(ticks) <= 6
        assert ticks[0] == 0
        assert ticks[-1] <= top * 1.0001
        assert ticks[-1] + ticks[1] > top * 0.999
        assert len(f"{ticks[1]:g}") <= 7

    @given(
        st.lists(st.floats(0, 1e4), max_size=300),
        st.none() | st.floats(1e-3, 1e4),
    )
    def test_everything_stays_within_the_frame(self, values: list[float], budget: float | None) -> None:
        points = [Point(f"{i // 7:02x}", i % 7, value) for i, value in enumerate(values)]
        text = str(epsilon_chart(points, budget, "clinic <1>"))
        assert "clinic &lt;1&gt;" in text
        assert "nan" not in text
        for x in re.findall(r'(?:x1|x2|cx|x)="([-0-9.]+)"', text):
            assert -1 <= float(x) <= 461
        for y in re.findall(r'(?:y1|y2|cy|y)="([-0-9.]+)"', text):
            assert -1 <= float(y) <= 231


class TestWording:
    def test_worst(self) -> None:
        assert worst(iter([])) is Verdict.VERIFIED
        assert worst(iter([Verdict.OPEN, Verdict.TAMPERED, Verdict.VIOLATED])) is Verdict.TAMPERED
        assert [one.severity for one in Verdict] == [0, 1, 2, 3]

    @given(st.floats(0, 1e6))
    def test_an_upper_bound_stays_one_when_it_is_rounded(self, value: float) -> None:
        shown_value = float(wording.number(value))
        assert value - 1e-6 <= shown_value <= value + 1.1e-3

    def test_an_unbounded_epsilon(self) -> None:
        assert wording.number(math.inf) == "∞"

    def test_the_explanation_holds_the_exact_claims(self) -> None:
        text = " ".join(wording.explanation().split())
        assert "The records are unaltered up to the last witnessed head" in text
        for item in wording.NOT_PROVED:
            assert item in text
        for verdict in Verdict:
            assert verdict in text
        assert "0 verified; 1 violated, tampered or open; 2 the input cannot be read" in text
