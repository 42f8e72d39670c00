"""A domain without held-out images has no accuracy: it is not one of 0 %, and no run ends because of it."""

from types import SimpleNamespace

from rich.console import Console

from fedapt_secure.simulate.results.display import _accuracy_table
from fedapt_secure.simulate.results.summary import _by_domain

FEDERATION = SimpleNamespace(
    dataset=SimpleNamespace(domains=("ink", "chalk")),
    roster=SimpleNamespace(
        members=[SimpleNamespace(name=f"clinic-{at + 1}", domain_index=at % 2) for at in range(3)]
    ),
)
SCORES = {
    "clinic-1": {"right": 6, "test_records": 10},
    "clinic-2": {"right": 0, "test_records": 0},
    "clinic-3": {"right": 3, "test_records": 5},
}


def test_it_is_left_out_of_the_mean():
    assert _by_domain(FEDERATION, SCORES, "right") == {"mean": 0.6, "per_domain": {"ink": 0.6}}
    none = {name: {"right": 0, "test_records": 0} for name in SCORES}
    assert _by_domain(FEDERATION, none, "right") == {"mean": 0.0, "per_domain": {}}


def test_it_is_left_out_of_the_table():
    part = _by_domain(FEDERATION, SCORES, "right")
    summary = {
        "method": "fedapt",
        "accuracy": {"zero_shot": part, "fedapt": part},
        "top_5": {"mean": 1.0, "per_domain": {"ink": 1.0}},
        "routing": part,
        "own_domain": None,
    }
    console = Console(width=100, record=True)
    console.print(_accuracy_table(summary))
    shown = console.export_text()
    assert "ink" in shown
    assert "chalk" not in shown
