"""The settings of ``fedapt-secure compare``: which methods, budgets and seeds; the rest is `simulate`'s."""

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, field_validator, model_validator

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config import ranges
from fedapt_secure.config.settings import Settings
from fedapt_secure.protocol.methods import (
    FEDAPT,
    FEDCLIP,
    LINEAR_PROBE,
    LOCAL,
    PROMPTFL,
    ZERO_SHOT,
    method_facts,
)

NO_PRIVACY: Final = "none"
"""How a run without differential privacy is asked for among budgets."""
DEFAULT_METHODS: Final = (ZERO_SHOT, LOCAL, LINEAR_PROBE, FEDCLIP, PROMPTFL, FEDAPT)
"""All that take seconds on the shipped data; the others are asked for by name."""
DEFAULT_ENSEMBLE: Final = "imagenet"
MAX_SEEDS: Final = 1000

Epsilon = Annotated[float, ranges.EPSILON]
LearningRate = Annotated[float, ranges.LEARNING_RATE]
Seed = Annotated[int, ranges.SEED]


class CompareSettings(Settings):
    """What one comparison is about.

    Attributes:
        methods: Which methods, in the order of the table.
        epsilons: ε of each institution over a whole run; ``None`` for runs without differential privacy.
        seeds: A run for each: who gets which images, and the initialisation.
        learning_rates: Step sizes of single methods; the others take their own default.
        ensemble: Prompts of the second zero-shot row, see `templates`.
        out: The comparison's folder.
    """

    methods: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_METHODS
    epsilons: Annotated[tuple[Epsilon | None, ...], Field(min_length=1)] = (None, 8.0)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    learning_rates: dict[str, LearningRate] = Field(default_factory=dict)
    ensemble: str = DEFAULT_ENSEMBLE
    out: Path

    @field_validator("methods", mode="before")
    @classmethod
    def _method_list(cls, value: Any) -> Any:
        return separated(value)

    @field_validator("epsilons", mode="before")
    @classmethod
    def _budget_list(cls, value: Any) -> Any:
        return budgets(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seed_list(cls, value: Any) -> Any:
        return seeds_of(value)

    @field_validator("learning_rates", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        pairs = [one.partition("=") for one in separated(value)]
        if not all(sign for _, sign, _ in pairs):
            raise ValueError("give METHOD=RATE, such as fedapt=0.5")
        return {name.strip(): rate.strip() for name, _, rate in pairs}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in (*self.methods, *self.learning_rates):
            try:
                method_facts(name)
            except InvalidInput as error:
                raise ValueError(str(error)) from None
        for name, given in (("methods", self.methods), ("epsilons", self.epsilons), ("seeds", self.seeds)):
            if len(set(given)) != len(given):
                raise ValueError(f"one of the {name} is given twice")
        return self


def budgets(value: Any) -> Any:
    """Return the budgets that a text or a list of texts names, ``none`` among them."""
    found = separated(value)
    if isinstance(found, tuple):
        return tuple(None if one == NO_PRIVACY else one for one in found)
    return found


def seeds_of(value: Any) -> Any:
    """Return the seeds of a text: ``5`` means five from 0; ``3,4`` those two, and ``3,`` that one."""
    if isinstance(value, str) and "," not in value:
        value = int(value) if value.strip().isdecimal() else value
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_SEEDS:
            raise ValueError(f"1 to {MAX_SEEDS} seeds are possible; a single seed N is given as 'N,'")
        return tuple(range(value))
    return separated(value)


def separated(value: Any) -> Any:
    """Return what a text or a list of texts says, with commas between the parts."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(part.strip() for one in value for part in one.split(",") if part.strip())
    return value
