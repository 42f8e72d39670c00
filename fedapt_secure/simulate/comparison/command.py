"""The work of ``fedapt-secure compare``: run what is missing, then show and write the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from fedapt_crypto.errors import RunFailed, Unavailable
from fedapt_secure.config.paper_choices import steps_said
from fedapt_secure.inference.pictures import NO_MATPLOTLIB, can_draw
from fedapt_secure.simulate.comparison.cases import Cases, cases_of
from fedapt_secure.simulate.comparison.display import CompareDisplay, print_comparison
from fedapt_secure.simulate.comparison.figures import Comparison, PublishedFigure, gather
from fedapt_secure.simulate.comparison.output import write_files
from fedapt_secure.simulate.comparison.picture import draw
from fedapt_secure.simulate.comparison.report import write_report
from fedapt_secure.simulate.comparison.runs import carry_out_all
from fedapt_secure.simulate.comparison.store import Store
from fedapt_secure.simulate.comparison.wanted import CompareSettings


@dataclass(frozen=True)
class About:
    """What is said of a table besides its figures.

    Attributes:
        title: What it is about, before what was run.
        notes: Sentences to stand below it.
        published: Finds what papers say of its rows.
    """

    title: str = ""
    notes: tuple[str, ...] = ()
    published: Callable[[Comparison], tuple[PublishedFigure, ...]] = lambda _: ()


NOTHING_MORE: Final = About()


def compare(wanted: CompareSettings, common: Mapping[str, Any], console: Console) -> Comparison:
    """Run a comparison, show it, and write it into its folder.

    Args:
        wanted: Methods, budgets, seeds and folder.
        common: Options of `simulate` for all runs.
        console: Where to show it.

    Raises:
        InvalidInput: If the settings cannot be carried out, or the folder holds other runs.
        RunFailed: If a run failed. The others were made, and the table is written.
        Unavailable: If the disk is full or broken; the same command goes on from there.
    """
    return run_cases(cases_of(wanted, common), wanted.out, common.get("cache"), console)


def run_cases(
    cases: Cases,
    out: Path,
    cache: Path | None,
    console: Console,
    about: About = NOTHING_MORE,
) -> Comparison:
    """Run what is missing of some simulations, show the table, and write it into its folder.

    Args:
        cases: What to run.
        out: The folder.
        cache: Folder of lasting features; by default in ``out``.
        console: Where to show it.
        about: What is said of it besides.

    Raises:
        InvalidInput: If the settings cannot be carried out, or the folder holds other runs.
        RunFailed: If a run failed. The others were made, and the table is written.
        Unavailable: If the disk is full or broken; the same command goes on from there.
    """
    store = Store(out)
    with store.in_use():
        try:
            with CompareDisplay(console, cases) as display:
                outcomes = carry_out_all(cases, store, display, cache)
        except (KeyboardInterrupt, Unavailable):
            console.print("finished runs are kept; the same command goes on from there", highlight=False)
            raise
        title = ": ".join(part for part in (about.title, _title(cases)) if part)
        comparison = gather(title, outcomes, cases.not_run, cases.views)
        comparison = replace(comparison, notes=about.notes, published=about.published(comparison))
        write_files(store.path, comparison)
        write_report(store.path, comparison)
        print_comparison(console, comparison)
        drawn = draw(store.path, comparison) if comparison.rows and can_draw() else ()
    if comparison.rows and not drawn:
        console.print(NO_MATPLOTLIB, highlight=False, markup=False)
    pictures = "".join(f", {path.suffix}" for path in drawn)
    written = f"Written to {store.path}: report.html, comparison.md, .csv, .json{pictures}"
    console.print(written, highlight=False, markup=False, soft_wrap=True)
    if not comparison.complete:
        count = len(comparison.failed)
        raise RunFailed(
            f"{count} of {len(cases.runs)} runs failed, see above; the same command tries them again"
        )
    return comparison


def _title(cases: Cases) -> str:
    settings = cases.runs[0].settings
    model = settings.model if settings.pretrained is None else f"{settings.model} ({settings.pretrained})"
    few = "" if settings.few_shot is None else f", {settings.few_shot} images a class"
    unseen = "" if settings.unseen_domain is None else ", on domains left out"
    steps = steps_said(settings.local_steps, settings.batch_size, settings.local_epochs)
    return f"{settings.dataset} on {model}{unseen}, {settings.rounds} rounds of {steps}{few}"
