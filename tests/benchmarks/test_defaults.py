"""The loops in memory that search and attack train as `simulate` does where it is not told."""

from dataclasses import asdict

import pytest

from benchmarks.learning.batched_loop import Setting
from benchmarks.learning.federated_loop import Trial
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.methods import FEDAPT, FEDCLIP, LINEAR_PROBE, PROMPTFL
from fedapt_secure.simulate.setup.recipe import recipe_of

METHODS = (FEDAPT, PROMPTFL, FEDCLIP, LINEAR_PROBE)


@pytest.mark.parametrize("method", METHODS)
def test_one_recipe_for_all_methods_that_were_searched(method: str) -> None:
    assert recipe_of(SimulateSettings(method=method)) == recipe_of(SimulateSettings())


@pytest.mark.parametrize("loop", [Trial, Setting])
def test_a_loop_in_memory_trains_as_simulate_does(loop: type[Trial] | type[Setting]) -> None:
    usual = SimulateSettings()
    of_simulate = usual.model_dump() | asdict(recipe_of(usual))
    of_loop = asdict(loop())
    # What has another name or form there, each for a reason of its own.
    apart = {"epsilon", "noise", "with_keys", "class_specific", "initial_words", "seed", "method"}
    shared = of_loop.keys() - apart
    assert shared <= of_simulate.keys()
    assert {name: of_loop[name] for name in shared} == {name: of_simulate[name] for name in shared}
    assert of_loop["epsilon"] == 8.0
    assert of_loop.get("class_specific", True) is not of_simulate["shared_context"]
