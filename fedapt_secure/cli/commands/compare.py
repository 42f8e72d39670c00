"""``fedapt-secure compare``: options; what it does is in `fedapt_secure.simulate.comparison`."""

from pathlib import Path
from typing import Annotated

from fedapt_secure.cli.commands.run_options import (
    RUN,
    Activation,
    BatchSize,
    Cache,
    Classes,
    Clients,
    ContextTokens,
    DataRoot,
    Dataset,
    Device,
    Dirichlet,
    DirichletOver,
    Domains,
    FewShot,
    InstitutionsPerDomain,
    LocalEpochs,
    LocalSteps,
    Model,
    Pretrained,
    Rounds,
    SampleRate,
    SecureAggregation,
    Template,
    TestShare,
    UnseenDomain,
    option,
)
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.process.screen import Screen

_WHAT = "What is compared"
_OWN = ("methods", "epsilons", "seeds", "learning_rates", "ensemble", "out")


def compare(
    out: Annotated[Path, option("The comparison's folder; finished runs in it are taken over.", RUN)],
    methods: Annotated[
        str | None,
        option(
            "Methods, separated by commas: fedapt, promptfl, cocoop, fedclip, linear-probe, local, zero-shot,"
            " fedavg, fedprox (default zero-shot, local, linear-probe, fedclip, promptfl, fedapt).",
            _WHAT,
        ),
    ] = None,
    epsilons: Annotated[
        list[str] | None,
        option(
            "ε of each institution over a run, or none: with commas, or several times (default none,8).",
            _WHAT,
            "--epsilons",
            "--dp-epsilon",
        ),
    ] = None,
    seeds: Annotated[
        str | None, option("5 for the seeds 0 to 4, or a list such as 3,4 (default 1).", _WHAT)
    ] = None,
    learning_rates: Annotated[
        list[str] | None,
        option("METHOD=RATE; repeatable (default: the method's own).", _WHAT, "--learning-rate"),
    ] = None,
    ensemble: Annotated[
        str | None,
        option("Prompts of the second zero-shot row: imagenet or imagenet-7 (default imagenet).", _WHAT),
    ] = None,
    clients: Clients = None,
    institutions_per_domain: InstitutionsPerDomain = None,
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    sample_rate: SampleRate = None,
    batch_size: BatchSize = None,
    local_epochs: LocalEpochs = None,
    context_tokens: ContextTokens = None,
    secure_aggregation: SecureAggregation = None,
    model: Model = None,
    pretrained: Pretrained = None,
    activation: Activation = None,
    dataset: Dataset = None,
    data_root: DataRoot = None,
    domains: Domains = None,
    classes: Classes = None,
    unseen_domain: UnseenDomain = None,
    dirichlet: Dirichlet = None,
    dirichlet_over: DirichletOver = None,
    test_share: TestShare = None,
    few_shot: FewShot = None,
    template: Template = None,
    cache: Cache = None,
    device: Device = None,
    config: Annotated[
        Path | None, option("YAML file with any other options of simulate, for all runs.", RUN)
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
    console = Screen()
    with console.status("starting"):
        from fedapt_secure.simulate.comparison.command import compare as run_comparison  # noqa: PLC0415
    run_comparison(wanted, common, console)
