"""The annex: each value is one that the logs hold, and no word from a log is markup in any of its files."""

import html.parser
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure import __version__
from fedapt_secure.audit.checks.recompute import recompute
from fedapt_secure.audit.judgement import audit
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.annex import FILES, annex_files, check_annex_folder, write_annex
from fedapt_secure.audit.report.dossier import NOT_RECORDED, TO_BE_ANSWERED, Dossier, dossier
from fedapt_secure.audit.report.guarantees import COMMON_DELTA
from fedapt_secure.audit.report.handed_over import ClassAccuracy, HandedOver
from fedapt_secure.audit.report.html import to_html
from fedapt_secure.audit.report.markdown import code, plain, table
from fedapt_secure.cli.work.documents import find
from fedapt_secure.log.line import parse_line
from fedapt_secure.process.shown import shown
from tests.audit.harness import Federation, Terms, federation
from tests.audit.report.test_reports import Page
from tests.protocol.federation import make_plan

MADE = datetime(2026, 11, 23, 12, tzinfo=UTC)
FOUR = ("ink", "chalk", "print", "scan")
HOSTILE = (
    "<script>alert(1)</script>",
    "| x | y |",
    "*bold* _it_ `code` [a](http://evil.example)",
    "www.evil.example a@evil.example",
    "line\nbreak\n\n# heading",
    "{{ 7 * 7 }} {% raw %}",
    "\u202eright to left",
    "&lt;b&gt; 'q' \"q\"",
    ": - {yaml: true} #no",
)


NAMES = tuple(name for name in HOSTILE if name.isprintable())
"""Others no plan has."""


def given_four(**plan: Any) -> Federation:
    made = Federation(4)
    made.session(plan=make_plan(domains=FOUR, weight_hash="5a" * 32, **plan))
    return made


def filed(made: Federation, folder: Path) -> Dossier:
    return dossier(audit([made.save(folder)], folder / "roster.json"), ["logs"], now=MADE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Dossier:
    return filed(given_four(max_grad_norm=0.75), tmp_path_factory.mktemp("whole"))


class Cells(html.parser.HTMLParser):
    """The cells of all tables of a page, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def rendered(text: str) -> Cells:
    return Cells(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


class TestMarkdown:
    @given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(HOSTILE))
    def test_a_cell_shows_exactly_what_a_log_says(self, text: str) -> None:
        said = rendered("\n".join(table(["a", "b"], [[f"x {plain(text)} y", "z"]])))
        assert said.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
        assert len(said.rows) == 2
        expected = f"x {shown(' '.join(text.split()))} y"
        assert [" ".join(cell.split()) for cell in said.rows[1]] == [" ".join(expected.split()), "z"]

    def test_links_do_not_come_out_of_names(self) -> None:
        for text in ("http://evil.example", "www.evil.example", "a@evil.example"):
            assert text not in plain(text)

    def test_code_is_for_letters_and_digits(self) -> None:
        assert code("00ff 12") == "`00ff 12`"
        assert code("a`b") == "a\\`b"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Dossier:
    made = Federation(4)
    domains = tuple(f"{name} {number}" for number, name in enumerate(NAMES[:4]))
    made.session(plan=make_plan(domains=domains, class_names=NAMES))
    made.logs["clinic-3"].write(
        "refused", {"round": 2, "rule": "|", "error": "Odd", "detail": "<b>no</b>\n| no |\u202e"}
    )
    folder = tmp_path_factory.mktemp("hostile")
    scores = [HandedOver("clinic-1", "<i>.json", 3, 0.5, None, (ClassAccuracy(NAMES[0], 3, 0.5),))]
    judgement = audit([made.save(folder)], folder / "roster.json")
    return dossier(judgement, ["<u>"], scores, now=MADE)


class TestHostileLogs:
    def test_the_page(self, hostile: Dossier) -> None:
        text = to_html(hostile)
        page = Page(text)
        assert not page.tags & {"script", "a", "i", "u", "img", "link"}
        assert "\u202e" not in text
        assert "49" not in page.text.split(f"Classes ({len(NAMES)})")[1].split("Session")[0]
        for name in NAMES:
            assert " ".join(shown(name).split()) in page.text

    def test_markdown(self, hostile: Dossier) -> None:
        for name, text in annex_files(hostile).items():
            if not name.endswith(".md"):
                continue
            seen = rendered(text)
            assert not seen.tags & {"script", "a", "b", "i", "u", "img"}, name
            assert "\u202e" not in text
            assert text.count("# heading") == text.count("\\# heading")
        seen = rendered(annex_files(hostile)["dpia-annex.md"])
        (classes,) = [row for row in seen.rows if row[0] == f"Classes ({len(NAMES)})"]
        assert len(classes) == 2
        assert classes[1] == ", ".join(shown(" ".join(name.split())) for name in NAMES)

    def test_yaml(self, hostile: Dossier) -> None:
        read = yaml.safe_load(annex_files(hostile)["dp-deployment.yaml"])
        described = read["deployment"]["basic"]["description"]
        assert described.endswith(f"classes: {', '.join(map(shown, NAMES))}.")


FIELDS = {
    "": {"url_slug", "deployment"},
    "deployment": {
        "basic",
        "dp_variant",
        "privacy_loss",
        "deployment_model",
        "implementation",
        "administrative",
    },
    "basic": {
        "name",
        "data_curators",
        "description",
        "intended_use",
        "data_product_type",
        "data_product_region",
        "data_product_sector",
        "publication_date",
    },
    "dp_variant": {"variant_name", "data_domain", "unprotected_quantities"},
    "privacy_loss": {
        "privacy_unit",
        "privacy_unit_details",
        "number_of_privacy_units",
        "privacy_parameters",
        "privacy_parameters_details",
    },
    "privacy_parameters": {"epsilon", "delta", "rho"},
    "deployment_model": {
        "model_name",
        "model_name_details",
        "trust_assumptions",
        "actors",
        "release_type",
        "release_type_details",
        "data_source_type",
        "data_source_type_details",
        "access_type",
        "access_type_details",
    },
    "implementation": {
        "preprocessing_and_hyperparameter_tuning",
        "mechanisms",
        "composition",
        "post_processing",
        "justification",
        "utility",
        "additional_information",
    },
    "administrative": {"evidence_sources", "status", "registry_authors", "tier"},
}
"""The registry's fields, typed from its schema."""


def fields_of(record: dict[str, Any], name: str = "") -> Iterator[tuple[str, set[str]]]:
    yield name, set(record)
    for key, value in record.items():
        if isinstance(value, dict):
            yield from fields_of(value, key)


class TestRegistryRecord:
    def test_its_fields_are_the_registrys(self, whole: Dossier) -> None:
        read = yaml.safe_load(annex_files(whole)["dp-deployment.yaml"])
        for name, keys in fields_of(read):
            assert keys <= FIELDS[name]
        assert {"name", "data_curators", "description", "intended_use", "data_product_type"} <= set(
            read["deployment"]["basic"]
        )
        loss = read["deployment"]["privacy_loss"]
        largest = max(one.epsilon for one in whole.guarantees)
        assert largest <= loss["privacy_parameters"]["epsilon"] <= largest + 0.0011
        assert loss["privacy_parameters"]["delta"] == 1e-3
        assert loss["number_of_privacy_units"] == 4 * 270

    def test_without_privacy_there_are_no_parameters(self, tmp_path: Path) -> None:
        made = Federation(3, Terms(require_differential_privacy=False))
        made.session(1, private=False)
        read = yaml.safe_load(annex_files(filed(made, tmp_path))["dp-deployment.yaml"])
        assert read["deployment"]["dp_variant"]["variant_name"] == TO_BE_ANSWERED
        assert "privacy_parameters" not in read["deployment"]["privacy_loss"]
        assert "number_of_privacy_units" not in read["deployment"]["privacy_loss"]

    def test_noise_that_can_be_foretold_has_no_parameters(self, tmp_path: Path) -> None:
        made = federation(3, sessions=1, noise="seeded")
        read = yaml.safe_load(annex_files(filed(made, tmp_path))["dp-deployment.yaml"])
        assert "privacy_parameters" not in read["deployment"]["privacy_loss"]
        assert read["deployment"]["dp_variant"]["variant_name"] == TO_BE_ANSWERED


CONSTANT = {"50", "1", "1e-5", "1.3"}
"""Guessing blindly, tests with that share of false alarms, the common δ, the version of TLS."""


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![0-9a-zA-Z.])\d+(?:\.\d+)?(?:e-?\d+)?(?![0-9a-zA-Z])", text))


def tokens(text: str) -> set[str]:
    return set(re.findall(r"\b[0-9a-f]{8,64}\b", text))


def values(thing: object) -> Iterator[float]:
    if isinstance(thing, dict):
        for one in thing.values():
            yield from values(one)
    elif isinstance(thing, list):
        yield float(len(thing))
        for one in thing:
            yield from values(one)
    elif isinstance(thing, int | float) and not isinstance(thing, bool):
        yield float(thing)


def logged(folder: Path) -> tuple[str, set[str]]:
    """Return the text of all logs, and every way to write a number that is in them."""
    text = "".join(path.read_text() for path in (folder / "logs").iterdir())
    found: set[str] = set()
    for line in text.splitlines():
        entry = parse_line(line.encode(), "")
        found |= numbers(f"{entry.time:%Y %m %d %H %M}") | {str(entry.seq + 1)}
        for value in values(entry.body):
            found |= {f"{value:g}", f"{value:.2e}", str(value), wording.number(value) if value < 1e6 else ""}
    return text, found


def history(said: Dossier) -> dict[tuple[float, float], int]:
    """The steps that the harness plans for everybody."""
    (steps,) = {
        one.plan.max_steps
        for party in said.judgement.parties
        for spend in party.spends
        for one in spend.counted
    }
    return {(0.5, 2.2): steps}


class TestNothingBeyondTheLogs:
    def test_every_value_follows_from_the_logs(self, tmp_path: Path) -> None:
        """What stands in no log is the same in every annex, or worked out here once more."""
        folder = tmp_path / "made"
        made = given_four(max_grad_norm=0.75)
        said = filed(made, folder)
        nothing = filed(Federation(4), tmp_path / "nothing")
        text, known = logged(folder)
        taken = history(said)
        planned = recompute(taken, 1e-3).epsilon + 0.01
        common = recompute(taken, COMMON_DELTA).epsilon
        right = (math.exp(planned) + 1e-3) / (math.exp(planned) + 1)
        found = min(math.exp(planned) * 0.01 + 1e-3, 1 - math.exp(-planned) * (1 - 1e-3 - 0.01))
        known |= {wording.number(planned), wording.number(common), str(4 * 270), __version__}
        known |= {f"{math.ceil(share * 1e4) / 100:.2f}" for share in (right, found)}
        known |= numbers(" ".join(f"{name} {version}" for name, version in said.software))
        lines = {str(log.seen.seq + 1) for party in said.judgement.parties for log in party.logs if log.seen}
        for name, annex in annex_files(said).items():
            constant = annex_files(nothing)[name]
            fixed = numbers(constant) | CONSTANT | lines
            assert numbers(annex) - fixed - known == set(), name
            heads = {log.last_line_hash for party in said.judgement.parties for log in party.logs}
            for token in tokens(annex) - tokens(constant):
                assert token in text or token in heads or token == made.roster.hash.hex(), (name, token)

    def test_without_the_coordinators_log_nothing_of_the_plan_is_said(self, tmp_path: Path) -> None:
        made = Federation(4)
        made.session(plan=make_plan(domains=("d-1", "d-2", "d-3", "d-4"), class_names=("melanoma", "naevus")))
        made.save(tmp_path)
        alone = dossier(audit([tmp_path / "logs" / "clinic-1.jsonl"], tmp_path / "roster.json"), now=MADE)
        for text in (*annex_files(alone).values(), to_html(alone)):
            assert not re.search("melanoma|naevus|d-[1-4]", text)
        assert NOT_RECORDED in annex_files(alone)["dpia-annex.md"]
        assert "a norm C that these logs do not name" in annex_files(alone)["dpia-annex.md"]

    def test_figures_of_an_altered_log_are_not_shown(self, tmp_path: Path) -> None:
        made = given_four()
        made.session(2)
        made.save(tmp_path)
        log = tmp_path / "logs" / "clinic-2.jsonl"
        log.write_bytes(log.read_bytes().replace(b'"noise_multiplier":2.2', b'"noise_multiplier":7.7', 1))
        said = dossier(audit([tmp_path], tmp_path / "roster.json"), now=MADE)
        assert {one.party for one in said.guarantees} == {"clinic-1", "clinic-3", "clinic-4"}
        files = annex_files(said)
        page = Page(to_html(said))
        labels = [value or "" for tag, key, value in page.attributes if (tag, key) == ("svg", "aria-label")]
        assert len(labels) == 3
        assert not [label for label in labels if "clinic-2" in label]
        assert "Its figures rest on altered records and are not shown." in page.text
        for text in (page.text, *files.values()):
            assert "7.7" not in numbers(text)
            assert "TAMPERED" in text
        assert "clinic-2: figures would rest on altered records." in files["dpia-annex.md"]

    def test_what_no_log_says_is_left_to_the_institution(self, whole: Dossier) -> None:
        files = annex_files(whole)
        assert files["dpia-annex.md"].count(TO_BE_ANSWERED) >= 10
        assert files["record-keeping.md"].count(TO_BE_ANSWERED) >= 6
        assert "**Purpose of the training:** To be answered by the institution." in files["dpia-annex.md"]
        for text in (files["dpia-annex.md"], files["record-keeping.md"]):
            assert "is no legal advice" in text
            assert wording.not_proved() in text

    def test_versions_that_trained_are_not_made_up(self, whole: Dossier) -> None:
        assert whole.software[0][1].startswith(NOT_RECORDED)
        assert (f"fedapt-secure {__version__}") in dict(whole.software).values()


class TestPage:
    def test_it_holds_what_an_officer_files(self, whole: Dossier) -> None:
        text = Page(to_html(whole)).text
        for heading in ("The training", "What ε says", "Who saw what", "Accuracy", "What is self-reported"):
            assert heading in text
        plan = whole.plans[0]
        (session,) = whole.sessions
        for value in (plan.weight_hash, session.model or "", session.session, "zero, one", "C = 0.75"):
            assert value in text
        assert "Purpose (to be stated by the institution; the logs hold none)" in text
        assert "Signatures" in text.split("Programs")[1]
        for named in re.findall(r"'fedapt-secure docs (\S+)'", text):
            assert find(named).path.is_file()
        assert wording.number(recompute(history(whole), COMMON_DELTA).epsilon) in text
        assert "no institution's evaluation was given" in text

    def test_accuracies_are_named_as_handed_over(self, whole: Dossier) -> None:
        classes = (ClassAccuracy("zero", 3, 2 / 3), ClassAccuracy("one", 0, None))
        scores = [HandedOver("clinic-1", "evaluation.json", 4, 0.755, 0.5, classes)]
        said = dossier(whole.judgement, scores=scores, now=MADE)
        text = Page(to_html(said)).text
        assert "this audit has checked none" in text
        assert "75.5 %" in text
        assert "66.7 % of 3" in text
        files = annex_files(said)
        assert "| zero | 3 | 66.7% |" in files["dpia-annex.md"]
        assert "as handed over and not checked: 75.5% of 4 images" in " ".join(
            files["dp-deployment.yaml"].split()
        )

    @pytest.mark.parametrize(("rounds", "columns", "strips"), [(6, 6, 1), (61, 31, 3), (75, 38, 3)])
    def test_long_runs_are_shown_in_strips_of_equal_width(
        self, rounds: int, columns: int, strips: int, tmp_path: Path
    ) -> None:
        made = Federation(3, Terms(max_steps=rounds))
        made.session(1, rounds)
        text = to_html(filed(made, tmp_path))
        grids = [part.split("</table>")[0] for part in text.split('<table class="grid')[1:]]
        assert len(grids) == strips
        widths = {len(row) for grid in grids for row in Cells(f"<table {grid}</table>").rows}
        assert len(widths) == 1
        assert widths.pop() <= 31
        assert sum(grid.split("</thead>")[0].count("<th>") for grid in grids) >= columns
        assert text.count('title="contributed"') == 3 * columns


class TestFiles:
    def test_they_are_written_and_replaced(self, whole: Dossier, tmp_path: Path) -> None:
        folder = tmp_path / "annex"
        for _ in range(2):
            written = write_annex(folder, whole)
        assert [path.name for path in written] == list(FILES)
        assert {path.name: path.read_text() for path in folder.iterdir()} == annex_files(whole)
        assert {path.stat().st_mode & 0o777 for path in written} == {0o644}

    def test_where_they_cannot_be(self, whole: Dossier, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for folder, says in ((tmp_path / "file", "is no folder"), (tmp_path / "no" / "such", "no folder")):
            with pytest.raises(InvalidInput, match=says):
                check_annex_folder(folder)
            with pytest.raises(InvalidInput):
                write_annex(folder, whole)


def test_every_party_has_a_line_to_sign_on(whole: Dossier) -> None:
    signed = rendered(annex_files(whole)["dpia-annex.md"]).rows
    for name in (*whole.institutions, COORDINATOR, "auditor"):
        assert [name, "", "", ""] in signed


def test_logs_without_a_session(tmp_path: Path) -> None:
    said = filed(Federation(3), tmp_path)
    assert said.sessions == ()
    assert "No session in these logs." in Page(to_html(said)).text
    assert yaml.safe_load(annex_files(said)["dp-deployment.yaml"])
