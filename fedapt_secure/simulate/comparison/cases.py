"""Which simulations a comparison consists of, and which of those asked for cannot be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import build
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.clip.templates import zero_shot_templates
from fedapt_secure.learning.data.dealing import DIGITS, MAX_DIGIT_CLIENTS, digit_clients
from fedapt_secure.protocol.methods import FEDAPT, ZERO_SHOT, method_facts
from fedapt_secure.simulate.comparison.wanted import CompareSettings
from fedapt_secure.simulate.results.unseen import as_file_name, turns
from fedapt_secure.simulate.setup.federation import check_method, deal_options

DECIDED_HERE: Final = ("method", "seed", "dp_epsilon", "no_dp", "out")
"""Options of `simulate` that a comparison gives each run itself."""
_ENSEMBLE_NAME: Final = "zero-shot-ensemble"


@dataclass(frozen=True)
class Label:
    """What a row of the table is about.

    Attributes:
        name: For files. title: For people.
        method: Which method.
        epsilon: ε asked for; ``None`` without differential privacy.
    """

    name: str
    title: str
    method: str
    epsilon: float | None

    @property
    def trains(self) -> bool:
        """Whether anything is trained, so that a budget means something."""
        return self.method != ZERO_SHOT

    @property
    def budget(self) -> str:
        """The ε asked for, for a cell of a table."""
        if not self.trains:
            return "-"
        return "none" if self.epsilon is None else f"{self.epsilon:g}"

    def __str__(self) -> str:
        if not self.trains:
            return self.title
        return f"{self.title}, " + ("no privacy" if self.epsilon is None else f"ε = {self.epsilon:g}")


@dataclass(frozen=True)
class Case:
    """One simulation.

    Attributes:
        label: The row that it belongs to.
        settings: What is run; its ``out`` and ``cache`` are the comparison's business.
    """

    label: Label
    settings: SimulateSettings

    @property
    def name(self) -> str:
        """Its folder's name, different for every case."""
        unseen = self.settings.unseen_domain
        without = "" if unseen is None else f"-without-{as_file_name(unseen)}"
        return f"{self.label.name}{without}-seed{self.settings.seed}"

    def __str__(self) -> str:
        unseen = self.settings.unseen_domain
        return f"{self.label}, " + (f"without {unseen}, " if unseen else "") + f"seed {self.settings.seed}"


@dataclass(frozen=True)
class View:
    """A row that needs no run of its own: another row's models, evaluated otherwise.

    Attributes:
        label: The row.
        of: The row whose runs it looks at.
        routing: How images are routed in it, see `learning.evaluation.scores`.
    """

    label: Label
    of: Label
    routing: str


@dataclass(frozen=True)
class NotRun:
    """A row that was asked for and cannot be, and why."""

    label: Label
    reason: str


@dataclass(frozen=True)
class Cases:
    """All of a comparison.

    Attributes:
        runs: What is run, by seed, so that the images of one split are dealt and encoded once.
        not_run: What is refused.
        views: What is looked at in other ways; each stands below the row whose runs it looks at.
    """

    runs: tuple[Case, ...]
    not_run: tuple[NotRun, ...] = ()
    views: tuple[View, ...] = ()

    @property
    def labels(self) -> tuple[Label, ...]:
        """The rows, in order."""
        return tuple(dict.fromkeys(case.label for case in self.runs))


@dataclass
class Collected:
    """Simulations as they are found, and rows that cannot be.

    Attributes:
        runs: What can be run.
        not_run: Why other rows cannot.
    """

    runs: list[Case] = field(default_factory=list)
    not_run: dict[Label, str] = field(default_factory=dict)

    def take(self, label: Label, fields: Mapping[str, Any], source: str) -> None:
        """Take a simulation, or note why it cannot be.

        Args:
            label: Its row.
            fields: Options of `simulate`.
            source: The command that asks for it.
        """
        facts = method_facts(label.method)
        if label.epsilon is not None and facts.never_private is not None:
            self.not_run.setdefault(label, f"never under differential privacy: {facts.never_private}")
            return
        try:
            settings = build(SimulateSettings, fields, source=source, as_options=True)
            check_method(settings)
        except InvalidInput as error:
            self.not_run.setdefault(label, str(error).removeprefix(f"{source}: "))
            return
        self.runs.append(Case(label, settings))

    def cases(self, views: tuple[View, ...] = ()) -> Cases:
        """Return all of them; raises `InvalidInput` where nothing can be run."""
        if not self.runs:
            raise InvalidInput(f"nothing can be run: {next(iter(self.not_run.values()))}")
        return Cases(tuple(self.runs), tuple(NotRun(*one) for one in self.not_run.items()), views)


def cases_of(wanted: CompareSettings, common: Mapping[str, Any]) -> Cases:
    """Return the simulations of a comparison.

    Args:
        wanted: Methods, budgets and seeds.
        common: Options of `simulate` for all of them. A ``learning_rate`` is that of the ``method`` which
            stands beside it, by default fedapt's.

    Raises:
        InvalidInput: If the common options are wrong, or nothing can be run.
    """
    if common.get("ledger") is not None:
        raise InvalidInput(
            "a comparison runs many sessions on the same images, and each is to count alone: leave out ledger"
        )
    zero_shot_templates(wanted.ensemble)
    shared = {name: value for name, value in common.items() if name not in DECIDED_HERE}
    rates = dict(wanted.learning_rates)
    own_rate = shared.pop("learning_rate", None)
    if own_rate is not None:
        rates.setdefault(str(common.get("method", FEDAPT)), own_rate)
    plain = build(SimulateSettings, shared | {"no_dp": True}, source="compare", as_options=True)
    check_data(plain)
    left_out = turns(plain)
    found = Collected()
    for seed, unseen in product(wanted.seeds, left_out):
        for label, fields in _labels(wanted):
            given = shared | fields | {"seed": seed, "unseen_domain": unseen}
            if label.method in rates:
                given["learning_rate"] = rates[label.method]
            found.take(label, given, source="compare")
    return found.cases()


def check_data(settings: SimulateSettings) -> None:
    """Refuse data of which no comparison means anything; raises `InvalidInput`."""
    if settings.dataset in DIGITS:
        count = digit_clients(settings.clients, deal_options(settings))
        if count > MAX_DIGIT_CLIENTS:
            raise InvalidInput(
                f"more than {MAX_DIGIT_CLIENTS} institutions draw the digits with replacement, and no"
                " accuracy would mean anything: choose fewer with --clients"
            )


def _labels(wanted: CompareSettings) -> Iterator[tuple[Label, dict[str, Any]]]:
    for method in wanted.methods:
        if method == ZERO_SHOT:
            yield Label(ZERO_SHOT, "zero-shot", ZERO_SHOT, None), {"method": ZERO_SHOT, "no_dp": True}
            fields = {"method": ZERO_SHOT, "no_dp": True, "template": wanted.ensemble}
            yield Label(_ENSEMBLE_NAME, f"zero-shot, {wanted.ensemble}", ZERO_SHOT, None), fields
    for epsilon in wanted.epsilons:
        for method in wanted.methods:
            if method != ZERO_SHOT:
                budget = "none" if epsilon is None else f"{epsilon:g}"
                label = Label(f"{method}-eps-{budget}", method_facts(method).title, method, epsilon)
                private = {"no_dp": True} if epsilon is None else {"dp_epsilon": epsilon}
                yield label, {"method": method, **private}
