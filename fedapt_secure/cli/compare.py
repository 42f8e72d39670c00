"""``fedapt-secure compare``: options; what it does is in `fedapt_secure.simulate.comparison`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fedapt_secure.config.settings import build, read_yaml

_WHAT, _TRAINING, _DATA, _RUN = "What is compared", "Training", "Model and data", "Run"
_OWN = ("methods", "epsilons", "seeds", "learning_rates", "ensemble", "out")


def _option(help_text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


def compare(
    out: Annotated[Path, _option("The comparison's folder; finished runs in it are taken over.", _RUN)],
    methods: Annotated[
        str | None,
        _option(
            "Methods, separated by commas: fedapt, promptfl, cocoop, fedclip, linear-probe, local, zero-shot,"
            " fedavg, fedprox (default zero-shot,local,linear-probe,fedclip,promptfl,fedapt).",
            _WHAT,
        ),
    ] = None,
    epsilons: Annotated[
        list[str] | None,
        _option(
            "ε of each institution over a run, or none: with commas, or several times (default none,8).",
            _WHAT,
            "--epsilons",
            "--dp-epsilon",
        ),
    ] = None,
    seeds: Annotated[
        str | None, _option("5 for the seeds 0 to 4, or a list such as 3,4 (default 1).", _WHAT)
    ] = None,
    learning_rates: Annotated[
        list[str] | None,
        _option("METHOD=RATE; repeatable (default: the method's own).", _WHAT, "--learning-rate"),
    ] = None,
    ensemble: Annotated[
        str | None,
        _option("Prompts of the second zero-shot row: imagenet or imagenet-7 (default imagenet).", _WHAT),
    ] = None,
    clients: Annotated[int | None, _option("Number of institutions.", _TRAINING)] = None,
    institutions_per_domain: Annotated[
        int | None, _option("Institutions of each domain, in place of --clients.", _TRAINING)
    ] = None,
    rounds: Annotated[int | None, _option("Rounds (default 15).", _TRAINING)] = None,
    local_steps: Annotated[
        int | None, _option("Steps of each institution a round (default 4).", _TRAINING)
    ] = None,
    sample_rate: Annotated[
        float | None, _option("Share of records drawn for a step, q (default 0.5).", _TRAINING)
    ] = None,
    context_tokens: Annotated[
        int | None, _option("Learned tokens of a prompt (default 8).", _TRAINING)
    ] = None,
    secure_aggregation: Annotated[
        str | None, _option("masking, ckks or none (default masking).", _TRAINING)
    ] = None,
    model: Annotated[str | None, _option("open_clip model, or tiny (default tiny).", _DATA)] = None,
    pretrained: Annotated[str | None, _option("open_clip tag, checkpoint file, or random.", _DATA)] = None,
    dataset: Annotated[str | None, _option("As in simulate (default digits).", _DATA)] = None,
    data_root: Annotated[
        Path | None, _option("The data set: DATA_ROOT/domain/class/image, or a CSV manifest.", _DATA)
    ] = None,
    domains: Annotated[
        str | None, _option("Which of its domains, separated by commas (default all).", _DATA)
    ] = None,
    unseen_domain: Annotated[
        str | None, _option("Leave this domain out and measure on it; or all: each in turn.", _DATA)
    ] = None,
    dirichlet: Annotated[
        float | None, _option("α: skew the classes among the institutions of a domain.", _DATA)
    ] = None,
    few_shot: Annotated[
        int | None, _option("Training images a class at each institution; without privacy only.", _DATA)
    ] = None,
    template: Annotated[
        str | None, _option("Prompt of the first zero-shot row, with {} for the class.", _DATA)
    ] = None,
    cache: Annotated[
        Path | None, _option("Folder of lasting features (default: in the comparison's folder).", _DATA)
    ] = None,
    device: Annotated[str | None, _option("auto, cpu or cuda (default auto).", _RUN)] = None,
    config: Annotated[
        Path | None, _option("YAML file with any other options of simulate, for all runs.", _RUN)
    ] = None,
) -> None:
    """Run several methods on the same split, and print one table. Interrupted, it goes on where it was."""
    given = {key: value for key, value in locals().items() if key != "config" and value not in (None, [])}
    from fedapt_secure.config.simulate import SimulateSettings  # noqa: PLC0415
    from fedapt_secure.simulate.comparison.wanted import CompareSettings  # noqa: PLC0415

    wanted = build(
        CompareSettings,
        {key: value for key, value in given.items() if key in _OWN},
        source="compare",
        as_options=True,
    )
    common = read_yaml(config) if config is not None else {}
    if config is not None:
        build(SimulateSettings, common, source=str(config))  # blame the file for its own mistakes
    common |= {key: value for key, value in given.items() if key not in _OWN}
    console = Console()
    with console.status("starting"):
        from fedapt_secure.simulate.comparison.command import compare as run_comparison  # noqa: PLC0415
    run_comparison(wanted, common, console)
