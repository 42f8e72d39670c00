"""The work of ``fedapt-secure compare``: run what is missing, then show and write the table."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from fedapt_crypto.errors import RunFailed, Unavailable
from fedapt_secure.config.paper_choices import steps_said
from fedapt_secure.inference.pictures import NO_MATPLOTLIB, can_draw
from fedapt_secure.simulate.comparison.cases import Cases, cases_of
from fedapt_secure.simulate.comparison.display import CompareDisplay, print_comparison
from fedapt_secure.simulate.comparison.figures import Comparison, gather
from fedapt_secure.simulate.comparison.output import write_files
from fedapt_secure.simulate.comparison.picture import draw
from fedapt_secure.simulate.comparison.runs import carry_out_all
from fedapt_secure.simulate.comparison.store import Store
from fedapt_secure.simulate.comparison.wanted import CompareSettings


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
    cases = cases_of(wanted, common)
    store = Store(wanted.out)
    with store.in_use():
        try:
            with CompareDisplay(console, cases) as display:
                outcomes = carry_out_all(cases, store, display, common.get("cache"))
        except (KeyboardInterrupt, Unavailable):
            console.print("finished runs are kept; the same command goes on from there", highlight=False)
            raise
        comparison = gather(_title(cases), outcomes, cases.not_run)
        write_files(store.path, comparison)
        print_comparison(console, comparison)
        drawn = draw(store.path, comparison) if comparison.rows and can_draw() else ()
    if comparison.rows and not drawn:
        console.print(NO_MATPLOTLIB, highlight=False, markup=False)
    pictures = "".join(f", {path.suffix}" for path in drawn)
    written = f"Written to {store.path}: comparison.md, .csv, .json{pictures}"
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
