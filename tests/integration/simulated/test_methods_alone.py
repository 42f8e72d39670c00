"""`simulate --method local` and `zero-shot`: no coordinator and no rounds, and the same ledgers."""

import numpy as np
import pytest

from fedapt_client.books.ledger import Ledger
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.log.reader import read_log
from tests.integration.log_schema import check_line

pytestmark = pytest.mark.integration
FAST = ("--rounds", "2", "--local-steps", "2", "--clients", "3")


def test_each_institution_trains_by_itself_under_its_own_budget(simulate) -> None:
    run = simulate("--method", "local", "--dp-epsilon", "4", *FAST)
    assert run.status == 0
    summary, names = run.summary, [f"clinic-{n}" for n in (1, 2, 3)]
    assert set(summary["accuracy"]["local"]["per_domain"]) == {"ink", "chalk", "print"}
    assert set(summary["own_domain"]["per_domain"]) == {"ink", "chalk", "print"}
    assert summary["rounds"] == []
    assert summary["secure_aggregation"] is None
    assert not (run.folder / "logs" / "coordinator.jsonl").exists()
    assert not (run.folder / "model.safetensors").exists()
    models = []
    for name in names:
        party = run.folder / "parties" / name
        entries = list(read_log(run.folder / "logs" / f"{name}.jsonl"))
        for entry in entries:
            check_line("institution", entry.type, entry.body)
        (spend,) = (entry.body for entry in entries if entry.type == "spend")
        spent = summary["privacy"][name]
        # As many steps as in a federation, reserved before the first of them, in the ledger and in the log.
        assert spend["steps"] == spent["steps"] == 4
        assert 0 < spent["epsilon_spent"] == spend["epsilon"] <= 4
        (session,) = Ledger(party / "ledger.sqlite", lambda earlier, terms: None).sessions
        assert session.steps_taken == 4
        assert session.terms.epsilon_budget == 4
        models.append(read_bundle(party / "model.safetensors").parameters["context"])
    assert not np.array_equal(models[0], models[1])


@pytest.mark.slow  # a whole simulation
def test_the_average_and_the_own_domain_are_what_the_models_score(simulate) -> None:
    """Three models, three test sets: recomputed from the bundles."""
    from fedapt_secure.learning.clip.backbone import load_backbone  # noqa: PLC0415
    from fedapt_secure.learning.data.features.image_features import load_features  # noqa: PLC0415
    from fedapt_secure.learning.data.reading.records import read_records  # noqa: PLC0415

    run = simulate("--method", "local", "--no-dp", *FAST)
    assert run.status == 0
    backbone, hits = load_backbone(), np.zeros((3, 3))
    for column in range(3):
        party = run.folder / "parties" / f"clinic-{column + 1}"
        bundle = read_bundle(party / "model.safetensors")
        records = read_records(party / "data", bundle.class_names).records
        features, labels = load_features(records, backbone, party / "cache").test
        for row in range(3):
            other = read_bundle(run.folder / "parties" / f"clinic-{row + 1}" / "model.safetensors")
            answers = other.model_on(backbone).predict(features).argmax(dim=1)
            hits[row, column] = float((answers == labels).float().mean())
    for column, domain in enumerate(("ink", "chalk", "print")):
        assert run.summary["accuracy"]["local"]["per_domain"][domain] == pytest.approx(hits[:, column].mean())
        assert run.summary["own_domain"]["per_domain"][domain] == pytest.approx(hits[column, column])


def test_zero_shot_spends_nothing_and_is_the_baseline_of_every_run(simulate) -> None:
    run = simulate("--method", "zero-shot", "--template", "imagenet-7", "--clients", "3")
    assert run.status == 0
    summary = run.summary
    assert summary["accuracy"]["zero-shot"] == summary["accuracy"]["zero_shot"]
    assert summary["parameters"]["trained"] == 0
    assert summary["privacy"] == {}
    assert not list((run.folder / "logs").iterdir())
    assert not list(run.folder.glob("parties/*/ledger.sqlite"))
    assert read_bundle(run.folder / "model.safetensors").parameters == {}


def test_what_has_no_meaning_alone_is_refused(simulate, capsys) -> None:
    for wrong in (("--processes",), ("--fail", "clinic-1@1:share")):
        assert simulate("--method", "local", *wrong, out="refused").status == 2
        assert f"leave out {wrong[0]}" in " ".join(capsys.readouterr().err.split())
