"""The paper's tables: rows, what each is run with, and which figures stand beside which row."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.layouts.domainnet import DOMAINNET
from fedapt_secure.protocol.methods import METHODS
from fedapt_secure.simulate.comparison.cases import Cases, Label
from fedapt_secure.simulate.comparison.figures import Comparison, Row, Spread
from fedapt_secure.simulate.comparison.output import to_fields, to_markdown
from fedapt_secure.simulate.paper import command
from fedapt_secure.simulate.paper.command import OF_THE_PAPER, PaperSettings, table_cases
from fedapt_secure.simulate.paper.published import beside, read_published
from fedapt_secure.simulate.paper.rows import WITH_LABELS, WITHOUT_LABELS
from fedapt_secure.simulate.paper.tables import TABLES, table_named

CONFIGS = Path(__file__).parents[3] / "configs" / "paper"
WITH_DATA = {"data_root": "images"}


def cases(name: str, given: dict[str, Any] | None = None, **wanted: Any) -> Cases:
    table = table_named(name)
    given = dict(WITH_DATA if table.needs_data else {}) | (given or {})
    return table_cases(table, PaperSettings(table=name, out=Path("x"), **wanted), table.base(CONFIGS), given)


COMPARISONS = [name for name, one in TABLES.items() if one.methods and not name.endswith("unseen")]
ABLATIONS = [name for name, one in TABLES.items() if not one.methods]


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_runs_every_method_as_its_configuration_says(name: str) -> None:
    methods = WITHOUT_LABELS if "unsupervised" in name else WITH_LABELS
    default = cases(name)
    assert not default.not_run
    by_method = {case.settings.method: case.settings for case in default.runs}
    assert tuple(by_method) == methods
    base = table_named(name).base(CONFIGS)
    for method, settings in by_method.items():
        changes = table_named(name).changes.get(method, {})
        for field, value in (base | {"method": method} | changes).items():
            found_value = getattr(settings, field)
            plain = list(found_value) if isinstance(found_value, tuple) else found_value
            assert (str(plain) if field == "data_root" else plain) == {"data_root": "images"}.get(
                field, value
            )


@pytest.mark.parametrize("name", [name for name in TABLES if name.endswith("unseen")])
def test_a_large_model_s_image_tower_is_trained_only_where_it_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "turns", lambda settings: (None,))  # which domains there are the folder says
    default = cases(name)
    assert [one.label.method for one in default.not_run] == ["fedavg", "fedprox"]
    assert all("a message holds 511 MiB" in one.reason for one in default.not_run)
    named = cases(name, rows="fedavg,fedapt")
    assert [case.settings.method for case in named.runs] == ["fedavg", "fedapt"]
    assert not cases(name, {"model": "ViT-B-32"}).not_run


def test_other_methods_have_the_rates_of_the_reference_s_scripts() -> None:
    """`prompt-promptfl.py` and `prompt-cocoop.py` have 1, the scripts for five a domain write 0.01."""
    one = {case.settings.method: case.settings for case in cases("domainnet-supervised").runs}
    assert {name: one[name].learning_rate for name in ("promptfl", "cocoop", "fedclip", "fedapt")} == {
        "promptfl": 1.0,
        "cocoop": 1.0,
        "fedclip": 0.01,
        "fedapt": 0.01,
    }
    five = {case.settings.method: case.settings for case in cases("domainnet-30-supervised").runs}
    assert {five[name].learning_rate for name in ("promptfl", "cocoop", "fedclip", "fedapt")} == {0.01}
    assert {name: five[name].rounds for name in ("promptfl", "fedclip", "fedapt")} == {
        "promptfl": 30,
        "fedclip": 30,
        "fedapt": 50,
    }


def test_what_is_given_wins_over_what_single_methods_have() -> None:
    found = cases("domainnet-30-supervised", {"rounds": 2, "learning_rate": 0.5})
    assert {(case.settings.rounds, case.settings.learning_rate) for case in found.runs} == {(2, 0.5)}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_thing(name: str) -> None:
    found = cases(name)
    assert not found.not_run
    full = found.runs[0].settings
    for case in found.runs[1:]:
        changed = {
            field
            for field in type(full).model_fields
            if getattr(case.settings, field) != getattr(full, field)
        }
        allowed = {
            "keys",
            "key_fusion",
            "key_values",
            "context_tokens",
            "temperature",
            "shared_context",
            "method",
        }
        assert changed, case
        assert changed <= allowed, case
        assert len(changed) == 1 or changed == {"key_fusion", "key_values"}, case
    assert {view.of for view in found.views} == {found.runs[0].label}
    assert {view.routing for view in found.views} == {"uniform", "oracle"}
    names = [case.name for case in found.runs]
    assert len(set(names)) == len(names)


def test_rows_and_seeds_are_chosen() -> None:
    found = cases("ablations-digits", rows="keys-1,oracle-routing", seeds="3,4")
    assert [case.name for case in found.runs] == [
        "fedapt-eps-none-seed3", "keys-1-eps-none-seed3", "fedapt-eps-none-seed4", "keys-1-eps-none-seed4",
    ]  # fmt: skip
    assert [view.label.title for view in found.views] == ["no network: the own domain's key, told"]
    with pytest.raises(InvalidInput, match=r"has no row 'keys-9': choose fedapt, no-keys"):
        cases("ablations-digits", rows="keys-9")
    with pytest.raises(InvalidInput, match="there is no table 'table-1': choose domainnet-supervised"):
        table_named("table-1")


def test_under_a_budget_this_program_s_own_recipe_takes_the_paper_s_place() -> None:
    found = cases("office-caltech10-supervised", epsilons="none,8")
    private = {case.settings.method: case.settings for case in found.runs if case.settings.dp_epsilon == 8}
    assert set(private) == {"local", "fedclip", "promptfl", "cocoop", "fedapt"}
    defaults = type(private["fedapt"]).model_fields
    for settings in private.values():
        assert settings.batch_size is None
        assert settings.test_share is None
        assert all(getattr(settings, name) == defaults[name].default for name in OF_THE_PAPER)
        assert settings.context_tokens == 24 or settings.method == "cocoop"
    assert {one.label.method for one in found.not_run} == {"fedavg", "fedprox"}
    assert sum(case.settings.method == "zero-shot" for case in found.runs) == 1
    views = cases("ablations-digits", rows="uniform-routing", epsilons="none,2").views
    assert [str(view.of) for view in views] == ["FedAPT, no privacy", "FedAPT, ε = 2"]


def test_published_figures_are_of_rows_and_domains_that_there_are() -> None:
    published = read_published(CONFIGS)
    assert published.share_trained == 10
    for name, rows in published.tables.items():
        table = table_named(name)
        for row in rows:
            assert row.row in table.methods
            assert row.row in METHODS
            assert set(row.accuracy) <= {"mean", *DOMAINNET.domains}
    zero_shot = published.tables["domainnet-supervised"][0].accuracy
    by_domain = [value for name, value in zero_shot.items() if name != "mean"]
    assert zero_shot["mean"] == pytest.approx(sum(by_domain) / 6, abs=0.05)


def row(name: str, title: str, mean: float, epsilon: float | None = None) -> Row:
    return Row(
        Label(name, title, name.split("-eps", maxsplit=1)[0], epsilon),
        (0,),
        {"clipart": Spread(mean - 0.1, None)},
        Spread(mean, None),
        None,
        100,
        10_000,
        0,
        0,
        None,
        1.0,
        None,
    )


def test_ours_stand_beside_the_published() -> None:
    published = read_published(CONFIGS).tables
    ours = Comparison("x", (row("zero-shot", "zero-shot", 0.5),), (), ())
    found = list(beside(ours, published["domainnet-supervised"]))
    assert [(one.what, one.published, round(one.ours, 6), round(one.difference, 6)) for one in found] == [
        ("clipart", 67.0, 40.0, -27.0),
        ("mean", 53.6, 50.0, -3.6),
    ]
    private = row("fedapt-eps-8", "FedAPT", 0.9, 8.0)
    plain = row("fedapt-eps-none", "FedAPT", 0.95)
    both = Comparison("x", (private, plain), (), (), published=())
    (one,) = beside(both, published["pacs-unseen"])
    assert (one.title, one.published, one.ours) == ("FedAPT", 93.56, 95.0)
    shown = Comparison(
        "x", (plain,), (), (), notes=("The table's settings, but for rounds 2.",), published=(one,)
    )
    text = to_markdown(shown)
    assert "| FedAPT | mean | 93.6 | 95.0 | +1.4 |" in text
    assert "but for rounds 2." in text
    fields = json.loads(json.dumps(to_fields(shown)))
    assert fields["published"][0]["difference"] == pytest.approx(1.44)


def test_a_damaged_file_of_published_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*published\.json"):
        read_published(tmp_path)
    (tmp_path / "published.json").write_text(
        '{"tables": {"x": [{"row": "fedapt", "accuracy": {"mean": 101}}]}}'
    )
    with pytest.raises(InvalidInput, match="is damaged: take it from the package again"):
        read_published(tmp_path)
