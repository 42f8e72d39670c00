"""``fedapt-secure paper``: options; what it does is in `fedapt_secure.simulate.paper`."""

from pathlib import Path
from typing import Annotated

import typer

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.commands.run_options import (
    RUN,
    Activation,
    Cache,
    DataRoot,
    Device,
    Domains,
    Model,
    Pretrained,
    Rounds,
    option,
)
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.process.screen import Screen

_WHAT = "What is run"
_OWN = ("table", "rows", "epsilons", "seeds", "out")


def paper(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="Which table; without, all are listed.")
    ] = None,
    out: Annotated[
        Path | None, option("The table's folder; finished runs in it are taken over.", RUN)
    ] = None,
    rows: Annotated[str | None, option("Some of its rows, separated by commas (default all).", _WHAT)] = None,
    seeds: Annotated[
        str | None, option("5 for the seeds 0 to 4, or a list such as 3,4 (default 1).", _WHAT)
    ] = None,
    epsilons: Annotated[
        list[str] | None,
        option("ε of each institution over a run, or none, as the paper trains (default none).", _WHAT),
    ] = None,
    data_root: DataRoot = None,
    domains: Domains = None,
    rounds: Rounds = None,
    model: Model = None,
    pretrained: Pretrained = None,
    activation: Activation = None,
    cache: Cache = None,
    device: Device = None,
    config: Annotated[
        Path | None, option("YAML file with any other options of simulate, for all rows.", RUN)
    ] = None,
) -> None:
    """Run a table of the FedAPT paper, all its rows, and show it beside what was published."""
    given = {key: value for key, value in locals().items() if key != "config" and value not in (None, [])}
    from fedapt_secure.cli.work.documents import folder  # noqa: PLC0415
    from fedapt_secure.config.simulate import SimulateSettings  # noqa: PLC0415

    console = Screen()
    with console.status("starting"):
        from fedapt_secure.simulate.paper.command import PaperSettings, print_tables, run_table  # noqa: PLC0415
        from fedapt_secure.simulate.paper.tables import table_named  # noqa: PLC0415
    if table is None:
        print_tables(console)
        return
    if out is None:
        raise InvalidInput("give --out: the folder for the table; finished runs in it are taken over")
    own = {key: value for key, value in given.items() if key in _OWN}
    wanted = build(PaperSettings, own, source="paper", as_options=True)
    configs = folder() / "configs" / "paper"
    others = read_yaml(config) if config is not None else {}
    if config is not None:  # blame the file for its own mistakes: it says what is another than in the table
        whole = {"no_dp": True, **table_named(wanted.table).base(configs), **others}
        build(SimulateSettings, whole, source=str(config))
    others |= {key: value for key, value in given.items() if key not in _OWN}
    run_table(wanted, others, configs, console)
