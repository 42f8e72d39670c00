"""The figures of a comparison: one row a method and budget, over all seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from fedapt_secure.simulate.comparison.cases import Label, NotRun, View
from fedapt_secure.simulate.comparison.runs import Outcome
from fedapt_secure.simulate.comparison.unseen import joined
from fedapt_secure.simulate.results.summary import Summary


@dataclass(frozen=True)
class Spread:
    """A mean over seeds.

    Attributes:
        mean: The mean.
        deviation: Sample standard deviation; ``None`` where there is one value only.
    """

    mean: float
    deviation: float | None

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Row:
    """What one method reached under one budget; accuracies are shares of the held-out images, in [0, 1].

    Attributes:
        label: Method and budget.
        seeds: Seeds that were finished.
        domains: Accuracy by domain; for `local` the average over the institutions' models.
        mean: Mean over domains.
        own_domain: For `local`: of each model on its own institution's images, mean over domains.
        trained: Number of values that are trained. model: Number of values of the whole CLIP.
        bytes_up, bytes_down: What an institution sends and gets in a round; 0 where nothing travels.
        epsilon_spent: The largest ε that an institution has spent in a run; ``None`` without privacy.
        seconds: Median duration of a run.
        not_private_because: Why nothing is private in it, if nothing is.
        failures: Seed and reason of runs that failed.
    """

    label: Label
    seeds: tuple[int, ...]
    domains: Mapping[str, Spread]
    mean: Spread
    own_domain: Spread | None
    trained: int
    model: int
    bytes_up: int
    bytes_down: int
    epsilon_spent: float | None
    seconds: float
    not_private_because: str | None
    failures: tuple[tuple[int, str], ...] = ()

    @property
    def share(self) -> float:
        """Trained values as a share of the whole model's."""
        return self.trained / self.model


@dataclass(frozen=True)
class PublishedFigure:
    """One figure that a paper printed and ours, in per cent.

    Attributes:
        title: The row's title. what: The domain, or ``mean``.
        published: The paper's. ours: Over all seeds.
        source: Where the paper's stands.
    """

    title: str
    what: str
    published: float
    ours: float
    source: str

    @property
    def difference(self) -> float:
        """Points that ours is above the published figure."""
        return self.ours - self.published


@dataclass(frozen=True)
class Comparison:
    """The whole table.

    Attributes:
        title: What was compared on what.
        rows: Rows with at least one finished run, in the order asked for.
        failed: Failed runs, by row; also those of rows in which nothing was finished.
        not_run: What was refused, with the reason.
        unseen: Whether domains are those that took no part in the run that the figure is from.
        notes: Sentences to stand below the table.
        published: What papers say of its rows.
    """

    title: str
    rows: tuple[Row, ...]
    failed: tuple[tuple[Label, int, str], ...]
    not_run: tuple[NotRun, ...]
    unseen: bool = False
    notes: tuple[str, ...] = ()
    published: tuple[PublishedFigure, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """Domain names, in order."""
        return tuple(self.rows[0].domains) if self.rows else ()

    @property
    def complete(self) -> bool:
        """Whether every run was finished."""
        return not self.failed


def gather(
    title: str, outcomes: Iterable[Outcome], not_run: Sequence[NotRun] = (), views: Sequence[View] = ()
) -> Comparison:
    """Return the table of a comparison's runs.

    Args:
        title: What was compared on what.
        outcomes: How each run ended.
        not_run: What was refused.
        views: Rows that are other looks at the runs of others.
    """
    by_label: dict[Label, list[Outcome]] = {}
    outcomes = list(outcomes)
    left_out = dict.fromkeys(one.case.settings.unseen_domain for one in outcomes)
    unseen = tuple(one for one in left_out if one is not None)
    for outcome in outcomes:
        by_label.setdefault(outcome.case.label, []).append(outcome)
    rows, failed = [], []
    for label, some in by_label.items():
        failures = tuple((one.case.settings.seed, one.failure) for one in some if one.failure is not None)
        failed += [(label, *one) for one in failures]
        finished = [(one.case, one.summary) for one in some if one.summary is not None]
        done = (
            joined(finished, unseen)
            if unseen
            else [(one.settings.seed, summary) for one, summary in finished]
        )
        if done:
            seeds, summaries = tuple(seed for seed, _ in done), [summary for _, summary in done]
            rows.append(_row(label, seeds, summaries, failures))
            rows += [
                _row(view.label, seeds, [_seen(one, view.routing) for one in summaries], failures)
                for view in views
                if view.of == label
            ]
    return Comparison(title, tuple(rows), tuple(failed), tuple(not_run), bool(unseen))


def _seen(summary: Summary, routing: str) -> Summary:
    """Return a summary whose accuracy is that with another routing."""
    return summary | {"accuracy": {summary["method"]: summary["accuracy_by_routing"][routing]}}


def _row(
    label: Label,
    seeds: tuple[int, ...],
    summaries: Sequence[Summary],
    failures: tuple[tuple[int, str], ...],
) -> Row:
    accuracies = [one["accuracy"][one["method"]] for one in summaries]
    # A seed may leave a domain without held-out images.
    names = dict.fromkeys(name for one in accuracies for name in one["per_domain"])
    own = [one["own_domain"]["mean"] for one in summaries if one["own_domain"] is not None]
    spent = [party["epsilon_spent"] for one in summaries for party in one["privacy"].values()]
    size = summaries[0]["parameters"]
    return Row(
        label=label,
        seeds=seeds,
        domains={
            name: Spread.over([one["per_domain"][name] for one in accuracies if name in one["per_domain"]])
            for name in names
        },
        mean=Spread.over([one["mean"] for one in accuracies]),
        own_domain=Spread.over(own) if own else None,
        trained=size["trained"],
        model=size["model"],
        bytes_up=_bytes_a_round(summaries, "bytes_up"),
        bytes_down=_bytes_a_round(summaries, "bytes_down"),
        epsilon_spent=max(spent) if spent else None if size["trained"] else 0.0,
        seconds=median(one["seconds_total"] for one in summaries),
        not_private_because=summaries[0]["not_private_because"] if size["trained"] else None,
        failures=failures,
    )


def _bytes_a_round(summaries: Sequence[Summary], name: str) -> int:
    """Return the median over completed rounds, of one institution."""
    rounds: list[Mapping[str, Any]] = [
        entry for one in summaries for entry in one["rounds"] if entry["status"] == "completed"
    ]
    each = [entry[name] / max(1, len(entry["participants"])) for entry in rounds]
    return round(median(each)) if each else 0
