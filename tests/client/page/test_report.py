"""The page of a session that has ended: what it was, what it cost, what its model recognises here."""

import json
from pathlib import Path

import pytest

from fedapt_client.page.recognised import recognised
from fedapt_client.page.report import write_session_report
from fedapt_client.settings import read_settings
from fedapt_client.training.kept_models import KeptModels
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.bundle import write_bundle
from tests.client.page.conftest import HOSTILE, SESSION, Party, write_rounds
from tests.export.conftest import make_bundle

COUNTS = {
    "test_records": 12,
    "zero_shot_correct": 5,
    "tuned_correct": 9,
    "routed_correct": 6,
    "correct_by_routing": {"uniform": 3, "oracle": 12},
    "zero_shot_by_class": [[0, 1], [1, 4]],
    "in_top_5": 11,
    "confusion": [[0, 0, 4], [0, 1, 1], [1, 0, 2], [1, 1, 5]],
    "chosen_keys": [[0, 6], [2, 6]],
    "unlabelled_test_records": 0,
}


def test_a_finished_session_is_one_page(party: Party) -> None:
    fields = party.offer()
    offered = json.loads((party.folder / "offer.json").read_text())
    offered["fields"]["session"] = SESSION
    (party.folder / "offer.json").write_text(json.dumps(offered).replace("zero", HOSTILE.replace('"', '\\"')))
    write_rounds(party, range(1, 4), 3)
    log = party.writer()
    log.write("session_ended", {"session": SESSION, "bundle": None, "model": "00"})
    closed = {"session": SESSION, "missing": ["clinic-3"], "signatures": {}, "completed_rounds": 3}
    log.write("session_closed", closed | {"configuration": "", "model": "", "transcript": ""})
    log.close()
    path = write_session_report(PartyFolder(party.folder), read_settings(party.folder), SESSION)
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert "ε 8.000 of 8" in text
    assert "lines of its log verify" in text
    assert "signed by all but clinic-3" in text
    assert "3 of 3 completed" in text
    assert "left no model here" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert fields["model"] in text
    lines = party.log.read_bytes().splitlines(keepends=True)
    party.log.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    again = write_session_report(PartyFolder(party.folder), read_settings(party.folder), SESSION)
    assert "THE LOG DOES NOT VERIFY" in again.read_text()


def finish(party: Party, method: str = "fedapt", classes: tuple[str, ...] = ("zero", HOSTILE)) -> KeptModels:
    """Leave a session that has ended, with its model and what it scored."""
    write_rounds(party, range(1, 4), 3)
    log = party.writer()
    log.write("session_ended", {"session": SESSION, "bundle": "00", "model": "00"})
    log.close()
    kept = KeptModels(party.folder)
    path = party.folder / "bundle"
    write_bundle(path, make_bundle(method, keys=3, classes=classes))
    kept.path(SESSION).unlink(missing_ok=True)
    kept.keep(SESSION, path.read_bytes())
    score(party, COUNTS)
    return kept


def score(party: Party, counts: object) -> None:
    KeptModels(party.folder).keep_evaluation(SESSION, json.dumps(counts).encode())


def report(party: Party) -> str:
    return write_session_report(PartyFolder(party.folder), read_settings(party.folder), SESSION).read_text()


def test_it_has_accuracy_by_class_beside_the_untuned_one(party: Party) -> None:
    finish(party)
    text = report(party)
    assert "<b>75.0 %</b>, untuned 41.7 %; among the five best answers 91.7 %" in text
    row = text[text.index('<td class="l">zero</td>') :].split("</tr>")[0]
    assert [row.count(one) for one in (">5<", ">20.0<", ">80.0<", ">+60.0<", ">66.7<")] == [1] * 5
    assert "What is taken for what" in text
    assert "With all keys alike 25.0 % would be right, with the own domain's key, told, 100.0 %" in text
    assert "recognised for 50.0 % of the images" in text
    assert [f'<th scope="col">place {key}</th>' in text for key in range(3)] == [True] * 3
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 3


def test_a_method_without_keys_says_nothing_of_them(party: Party) -> None:
    finish(party, "promptfl")
    text = report(party)
    assert "Accuracy by class" in text
    assert "Whose knowledge" not in text


def test_forty_classes_are_no_matrix(party: Party) -> None:
    finish(party, classes=tuple(f"class {number}" for number in range(40)))
    text = report(party)
    assert 'class="heat"' in text.split("Whose knowledge")[1]
    mistakes = text.split("What is taken for what")[1].split("</table>")[0]
    assert '<tr><td class="l">class 1</td><td class="l">class 0</td><td class="num">2</td>' in mistakes
    assert 'class="heat"' not in mistakes


def test_without_held_out_images_there_is_no_accuracy(party: Party) -> None:
    finish(party)
    score(party, COUNTS | {"test_records": 0, "confusion": [], "in_top_5": 0, "chosen_keys": []})
    assert recognised(party.folder, SESSION) is None
    assert "Accuracy" not in report(party)


@pytest.mark.parametrize(
    "counts",
    [
        [],
        {},
        COUNTS | {"confusion": [[0, 2, 1]]},
        COUNTS | {"confusion": [[-1, 0, 1]]},
        COUNTS | {"confusion": 3},
        COUNTS | {"zero_shot_by_class": [3]},
        COUNTS | {"zero_shot_correct": "many"},
        COUNTS | {"correct_by_routing": {}},
        {name: value for name, value in COUNTS.items() if name != "routed_correct"},
    ],
)
def test_damaged_counts_are_one_sentence(party: Party, counts: object) -> None:
    finish(party)
    score(party, counts)
    with pytest.raises(InvalidInput):
        report(party)


def test_a_file_that_cannot_be_read(party: Party) -> None:
    path: Path = finish(party).evaluation(SESSION)
    path.write_bytes(b"\xff{")
    with pytest.raises(InvalidInput, match="cannot be read"):
        report(party)


def test_three_hundred_rounds_fit_onto_paper(party: Party) -> None:
    write_rounds(party, range(1, 301), 300)
    log = party.writer()
    log.write("session_ended", {"session": SESSION, "bundle": None, "model": "00"})
    log.close()
    text = report(party)
    assert "<summary>288 rounds before them</summary>" in text
    assert [f"<th>{label}</th>" in text for label in ("1–5", "296–300")] == [True, True]
    assert text.count('class="in"') == 2 * 60
    assert len(text) < 120_000
