"""The options of ``compare``: lists as they are typed, and one clear line for each mistake."""

from pathlib import Path

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import build
from fedapt_secure.simulate.comparison.wanted import CompareSettings


def make(**fields: object) -> CompareSettings:
    return build(CompareSettings, {"out": Path("x"), **fields}, source="compare", as_options=True)


@pytest.mark.parametrize(
    ("given", "seeds"), [("3", (0, 1, 2)), (2, (0, 1)), ("7,", (7,)), ("4, 3", (4, 3)), ([5, 6], (5, 6))]
)
def test_seeds_are_a_number_or_a_list(given: object, seeds: tuple[int, ...]) -> None:
    assert make(seeds=given).seeds == seeds


def test_budgets_are_lists_of_lists_with_none() -> None:
    assert make(epsilons=["none,8", "0.5"]).epsilons == (None, 8.0, 0.5)
    assert make(epsilons="none").epsilons == (None,)
    assert make().epsilons == (None, 8.0)


def test_methods_and_rates() -> None:
    found = make(methods=" fedapt ,cocoop", learning_rates=["cocoop=0.25,fedapt=2"])
    assert found.methods == ("fedapt", "cocoop")
    assert found.learning_rates == {"cocoop": 0.25, "fedapt": 2.0}


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"methods": "fedapt,nonsense"}, "no method 'nonsense'; choose fedapt"),
        ({"methods": ""}, "methods"),
        ({"methods": "local,local"}, "twice"),
        ({"epsilons": "none,0"}, "epsilons"),
        ({"epsilons": "inf"}, "epsilons"),
        ({"epsilons": "much"}, "epsilons"),
        ({"epsilons": "8,8.0"}, "twice"),
        ({"seeds": "0"}, "single seed N is given as 'N,'"),
        ({"seeds": "-1,2"}, "seeds"),
        ({"seeds": "many"}, "seeds"),
        ({"learning_rates": ["fedapt"]}, "METHOD=RATE"),
        ({"learning_rates": ["fedapt=-1"]}, "learning-rates"),
        ({"learning_rates": ["nonsense=1"]}, "no method 'nonsense'"),
    ],
)
def test_each_mistake_is_one_line(fields: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        make(**fields)
    assert "\n" not in str(caught.value)
