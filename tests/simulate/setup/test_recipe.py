"""How a run trains where it is not told: one recipe with labels, papers' values without; a choice wins."""

import dataclasses

import pytest

from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.methods import METHODS
from fedapt_secure.simulate.setup.recipe import Recipe, recipe_of

GIVEN = Recipe(
    learning_rate=0.125,
    learning_rate_schedule="constant",
    momentum=0.5,
    max_grad_norm=2.0,
    loss_temperature=3.0,
    domain_loss_weight=0.75,
)


@pytest.mark.parametrize("method", [name for name, facts in METHODS.items() if not facts.never_private])
def test_one_recipe_serves_every_budget_and_method(method: str) -> None:
    found = [
        recipe_of(SimulateSettings(method=method, **budget))
        for budget in ({"dp_epsilon": 8.0}, {"dp_epsilon": 0.5}, {"no_dp": True})
    ]
    assert found[0] == found[1] == found[2]
    assert (found[0].learning_rate_schedule, found[0].loss_temperature) == ("linear", 4.0)


@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_whole_image_towers_are_trained_as_in_papers(method: str) -> None:
    found = recipe_of(SimulateSettings(method=method, no_dp=True))
    assert (found.learning_rate, found.learning_rate_schedule, found.momentum) == (0.01, "constant", 0.9)
    assert (found.loss_temperature, found.domain_loss_weight) == (1.0, 1.0)


@pytest.mark.parametrize(("method", "rate"), [("fedapt", 0.1), ("promptfl", 0.1), ("linear-probe", 0.3)])
def test_without_labels_steps_are_small(method: str, rate: float) -> None:
    found = recipe_of(SimulateSettings(method=method, unsupervised=True))
    assert (found.learning_rate, found.learning_rate_schedule, found.loss_temperature) == (
        rate,
        "constant",
        1.0,
    )


@pytest.mark.parametrize("unsupervised", [True, False])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Recipe)])
def test_what_is_asked_for_wins(name: str, unsupervised: bool) -> None:
    value = getattr(GIVEN, name)
    found = recipe_of(SimulateSettings.model_validate({name: value, "unsupervised": unsupervised}))
    assert getattr(found, name) == value
    plain = recipe_of(SimulateSettings(unsupervised=unsupervised))
    assert dataclasses.replace(found, **{name: getattr(plain, name)}) == plain


def test_no_momentum_is_a_choice_too() -> None:
    assert recipe_of(SimulateSettings(unsupervised=True, momentum=0.0)).momentum == 0.0
