"""Commands and their options. Heavy imports happen inside the commands, so that ``--help`` is instant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fedapt_crypto.errors import FedaptError, InvalidInput
from fedapt_secure import __version__
from fedapt_secure.cli import cache as cache_commands
from fedapt_secure.cli import client, compare, server, use
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.privacy.unit import unit_of

# Typer may carry its own copy of click: take the base of errors from what it raises, not from click.
_ClickError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="fedapt-secure",
    help="Tune CLIP together without showing anyone your images: FedAPT under differential privacy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(server.app)
app.add_typer(client.app)
app.add_typer(cache_commands.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


_PRIVACY, _TRAINING, _DATA, _RUN = "Privacy and protection", "Training", "Model and data", "Run"


def _option(help_text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


@app.command()
def simulate(
    dp_epsilon: Annotated[
        float | None, _option("ε of each institution over the whole run (default 8).", _PRIVACY)
    ] = None,
    dp_delta: Annotated[float | None, _option("δ (default 1/(2 x declared records)).", _PRIVACY)] = None,
    ledger: Annotated[
        Path | None,
        _option(
            "Folder of lasting ledgers: what earlier runs spent on the same images counts, and a run over"
            " the policy is refused (default: ledgers inside the run folder, each run counts alone).",
            _PRIVACY,
        ),
    ] = None,
    max_epsilon: Annotated[
        float | None,
        _option(
            "With --ledger: ε allowed for each institution's images over all runs, δ in proportion"
            " (default: this run's ε, so a second run on the same images is refused).",
            _PRIVACY,
        ),
    ] = None,
    no_dp: Annotated[
        bool | None, _option("Train without privacy: for experiments only.", _PRIVACY, "--no-dp")
    ] = None,
    insecure_deterministic_noise: Annotated[
        bool | None,
        _option(
            "Let --seed decide the privacy noise, to repeat a run: NOT private, and marked so.",
            _PRIVACY,
            "--insecure-deterministic-noise",
        ),
    ] = None,
    secure_aggregation: Annotated[
        str | None, _option("masking, ckks or none (default masking).", _PRIVACY)
    ] = None,
    clients: Annotated[
        int | None,
        _option(
            "Number of institutions (default one a domain; 5 for digits; of these above 20 synthetic).",
            _TRAINING,
        ),
    ] = None,
    institutions_per_domain: Annotated[
        int | None, _option("Institutions of each domain, in place of --clients.", _TRAINING)
    ] = None,
    method: Annotated[
        str | None,
        _option(
            "fedapt, promptfl, cocoop, fedclip, linear-probe, local, zero-shot; without privacy also fedavg,"
            " fedprox (default fedapt).",
            _TRAINING,
        ),
    ] = None,
    unsupervised: Annotated[
        bool | None,
        _option("Train without labels: they serve tests alone.", _TRAINING, "--unsupervised"),
    ] = None,
    pseudo_label_confidence: Annotated[
        float | None,
        _option("With --unsupervised: from when on the untuned model counts (default 0.75).", _TRAINING),
    ] = None,
    consistency_rounds: Annotated[
        int | None,
        _option(
            "With --unsupervised: how many of the last rounds look at neighbours (default 4; none under"
            " differential privacy).",
            _TRAINING,
        ),
    ] = None,
    augmentations: Annotated[
        str | None,
        _option(
            "With --unsupervised: of flip,jitter,greyscale,blur (default all; digits: no flip).", _TRAINING
        ),
    ] = None,
    augmented_views: Annotated[
        int | None, _option("With --unsupervised: augmented views of each image (default 4).", _TRAINING)
    ] = None,
    initial_context: Annotated[
        str | None,
        _option(
            "Words that contexts start from, or random (default random; 'a photo of a' with --unsupervised).",
            _TRAINING,
        ),
    ] = None,
    rounds: Annotated[int | None, _option("Rounds (default 15).", _TRAINING)] = None,
    local_steps: Annotated[
        int | None, _option("Steps of each institution a round (default 4).", _TRAINING)
    ] = None,
    sample_rate: Annotated[
        float | None, _option("Share of records drawn for a step, q (default 0.5).", _TRAINING)
    ] = None,
    learning_rate: Annotated[
        float | None, _option("Learning rate (default: the method's, 0.5 for fedapt).", _TRAINING)
    ] = None,
    gradient_units: Annotated[
        str | None,
        _option(
            "text-features: one learning rate fits every model; loss: learning rates as papers state them"
            " (default text-features).",
            _TRAINING,
        ),
    ] = None,
    momentum: Annotated[float | None, _option("Momentum within a round (default 0.9).", _TRAINING)] = None,
    max_grad_norm: Annotated[float | None, _option("Clipping norm C (default 1).", _TRAINING)] = None,
    weight_decay: Annotated[float | None, _option("L2 penalty (default 0).", _TRAINING)] = None,
    proximal_weight: Annotated[
        float | None, _option("FedProx' μ (default 0.01 for fedprox, else 0).", _TRAINING)
    ] = None,
    temperature: Annotated[
        float | None, _option("Temperature that routes images to domains (default 0.01).", _TRAINING)
    ] = None,
    keys: Annotated[
        str | None,
        _option("Number of domain keys, or per-institution (default one a domain).", _TRAINING),
    ] = None,
    context_tokens: Annotated[
        int | None, _option("Learned tokens of a prompt (default 8).", _TRAINING)
    ] = None,
    shared_context: Annotated[
        bool | None, _option("One context for all classes.", _TRAINING, "--shared-context")
    ] = None,
    participation: Annotated[
        str | None,
        _option(
            "Who takes part in a round: all, or one-per-domain, one of each domain (default all).",
            _TRAINING,
        ),
    ] = None,
    update_clip: Annotated[
        float | None, _option("Largest parameter change that is sent (default 4).", _TRAINING)
    ] = None,
    model: Annotated[str | None, _option("open_clip model, or tiny (default tiny).", _DATA)] = None,
    pretrained: Annotated[str | None, _option("open_clip tag, checkpoint file, or random.", _DATA)] = None,
    dataset: Annotated[
        str | None,
        _option(
            "digits, digits-flipped, folder, domainnet, office-caltech10, pacs, officehome or office31"
            " (default digits).",
            _DATA,
        ),
    ] = None,
    data_root: Annotated[
        Path | None, _option("The data set: DATA_ROOT/domain/class/image, or a CSV manifest.", _DATA)
    ] = None,
    domains: Annotated[
        str | None, _option("Which of its domains, separated by commas (default all).", _DATA)
    ] = None,
    unseen_domain: Annotated[
        str | None,
        _option("Leave this domain out and evaluate on it; or all: each in turn, a run each.", _DATA),
    ] = None,
    dirichlet: Annotated[
        float | None,
        _option("α: skew the classes among the institutions of a domain (default: even shares).", _DATA),
    ] = None,
    few_shot: Annotated[
        int | None, _option("Training images a class at each institution; with --no-dp.", _DATA)
    ] = None,
    template: Annotated[
        str | None,
        _option("Prompt of zero-shot CLIP with {} for the class, or imagenet or imagenet-7.", _DATA),
    ] = None,
    cache: Annotated[
        Path | None,
        _option(
            "Folder of lasting features, so that later runs on the same images need not encode them again;"
            " as sensitive as the images (default: inside the run folder).",
            _DATA,
        ),
    ] = None,
    device: Annotated[str | None, _option("auto, cpu or cuda (default auto).", _RUN)] = None,
    precision: Annotated[
        str | None,
        _option("Of the frozen CLIP: float32, bfloat16, or auto, bfloat16 on GPUs (default auto).", _RUN),
    ] = None,
    seed: Annotated[
        int | None,
        _option("Who gets which images, and the initialisation; never the noise (default 0).", _RUN),
    ] = None,
    config: Annotated[Path | None, _option("YAML file with any of these options.", _RUN)] = None,
    out: Annotated[Path | None, _option("Run folder (default runs/<time>-seed<N>).", _RUN)] = None,
    processes: Annotated[
        bool | None, _option("One process a party, as in a real deployment.", _RUN, "--processes")
    ] = None,
    fail: Annotated[
        list[str] | None, _option("NAME@ROUND:PHASE: let an institution vanish there; repeatable.", _RUN)
    ] = None,
) -> None:
    """Run a whole federation on this machine: real server, clients, sockets, TLS and cryptography."""
    given = {key: value for key, value in locals().items() if key != "config" and value not in (None, [])}
    from fedapt_secure.config.simulate import ALL_DOMAINS, SimulateSettings  # noqa: PLC0415

    from_file = read_yaml(config) if config is not None else {}
    if config is not None:
        build(SimulateSettings, from_file, source=str(config))  # blame the file for its own mistakes
    if given.get("no_dp") and not {"dp_epsilon", "dp_delta"} & given.keys():
        from_file = {k: v for k, v in from_file.items() if k not in ("dp_epsilon", "dp_delta")}
    if {"dp_epsilon", "dp_delta"} & given.keys() and "no_dp" not in given:
        from_file = {k: v for k, v in from_file.items() if k != "no_dp"}
    settings = build(SimulateSettings, from_file | given, source="simulate", as_options=True)
    console = Console()
    with console.status("starting"):
        from fedapt_secure.simulate.command import simulate as run_simulation  # noqa: PLC0415 - seconds
        from fedapt_secure.simulate.leave_one_out import leave_one_out  # noqa: PLC0415
    if settings.unseen_domain == ALL_DOMAINS:
        leave_one_out(settings, console)
    else:
        run_simulation(settings, console)


@app.command()
def plan(
    epsilon: Annotated[float, typer.Option(help="ε to stay within over the whole session.")],
    records: Annotated[int | None, typer.Option(help="Training images of the institution.")] = None,
    persons: Annotated[
        int | None, typer.Option(help="In their place, where images have subjects: people to train on.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="δ (default 1/(2 x declared number)).")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 15,
    local_steps: Annotated[int, typer.Option(help="Steps a round.")] = 4,
    sample_rate: Annotated[float, typer.Option(help="Share of them drawn for a step, q.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan a budget before anything is spent: noise, steps, and ε after each round."""
    count = persons if records is None else records
    if count is None or (records is not None and persons is not None):
        raise InvalidInput("give --records, or --persons where each image has a subject (docs/data.md)")
    console = Console()
    with console.status("starting"):
        from fedapt_secure.cli.plan import print_plan  # noqa: PLC0415 - brings torch, seconds
    print_plan(
        console,
        epsilon=epsilon,
        count=count,
        unit=unit_of(has_subjects=records is None),
        delta=delta,
        rounds=rounds,
        local_steps=local_steps,
        sample_rate=sample_rate,
        as_json=as_json,
    )


@app.command()
def audit(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="A run folder, or the logs of one or more parties."),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="ROSTER", help="roster.json that you approved: pins the identities."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page to read and print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what ε, δ and the verdicts mean, and what is not proved.")
    ] = False,
) -> None:
    """Check logs as an outsider: are they whole, and what do they imply? Exit 0 says verified."""
    if explain:
        from fedapt_secure.audit.wording import explanation  # noqa: PLC0415

        typer.echo(explanation())
        if not paths:
            return
    from fedapt_secure.cli.audit import run_audit  # noqa: PLC0415 - numpy and the template engine

    if not run_audit(Console(), paths or [], trust=trust, as_json=as_json, html=html):
        raise typer.Exit(FAILED)


app.command()(compare.compare)
app.command()(use.predict)
app.command()(use.evaluate)
app.command("model-info")(use.model_info)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; errors become one line on standard error."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        status = typer.main.get_command(app).main(
            list(arguments), prog_name="fedapt-secure", standalone_mode=False
        )
    except InvalidInput as error:
        errors.print(f"[red]error:[/] {_plain(error)}")
        return BAD_INPUT
    except FedaptError as error:
        errors.print(f"[red]failed:[/] {_plain(error)}")
        return FAILED
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(str(error))
        else:
            errors.print(f"[red]error:[/] {_plain(_click_message(error))}")
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        errors.print("interrupted")
        return INTERRUPTED
    if status == INTERRUPTED:  # Typer's way of passing on Ctrl-C
        errors.print("interrupted")
    return int(status or DONE)


def _click_message(error: Exception) -> str:
    message: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return message


def _plain(message: object) -> str:
    from rich.markup import escape  # noqa: PLC0415

    return escape(" ".join(str(message).split()))
