"""Commands and their options. Heavy imports happen inside the commands, so that ``--help`` is instant."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from fedapt_crypto.errors import InvalidInput
from fedapt_secure import __version__
from fedapt_secure.cli.commands import cache as cache_commands
from fedapt_secure.cli.commands import client, compare, documents, paper, server, simulate, use
from fedapt_secure.cli.options import within
from fedapt_secure.cli.preparing import layout, prepare_commands
from fedapt_secure.config import ranges
from fedapt_secure.privacy.unit import unit_of
from fedapt_secure.process.ending import guarded
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.process.screen import Screen
from fedapt_secure.process.streams import complain, say, say_lines

# Typer may carry its own copy of click: take the base of errors from what it raises, not from click.
_ClickError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

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
        say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def plan(
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="ε to stay within over the whole session (with --dir: what one session may there).",
            callback=within(ranges.EPSILON),
        ),
    ] = None,
    records: Annotated[
        int | None,
        typer.Option(help="Training images of the institution.", callback=within(ranges.COUNT_OF_RECORDS)),
    ] = None,
    persons: Annotated[
        int | None,
        typer.Option(
            help="In their place, where images have subjects: people to train on.",
            callback=within(ranges.COUNT_OF_RECORDS),
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="δ (default 1/(2 x declared number); with --dir at most what one session may)."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds.", callback=within(ranges.ROUNDS))] = 30,
    local_steps: Annotated[int, typer.Option(help="Steps a round.", callback=within(ranges.LOCAL_STEPS))] = 4,
    sample_rate: Annotated[
        float,
        typer.Option(help="Share of them drawn for a step, q.", callback=within(ranges.SAMPLE_RATE)),
    ] = 0.5,
    institutions: Annotated[
        int,
        typer.Option(
            help="How many train together, all like this one.", callback=within(ranges.INSTITUTIONS)
        ),
    ] = 5,
    classes: Annotated[
        int, typer.Option(help="Classes told apart.", callback=within(ranges.CLASSES_NAMED))
    ] = 10,
    feature_size: Annotated[
        int,
        typer.Option(
            help="Size of the CLIP's joint embedding: tiny 64, ViT-B-32 512, ViT-L-14 768.",
            callback=within(ranges.WIDTH),
        ),
    ] = 64,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="An institution's folder: plan under its own policy and settings."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan a budget before anything is spent: noise, steps, and ε after each round."""
    count = persons if records is None else records
    if count is None or (records is not None and persons is not None):
        raise InvalidInput("give --records, or --persons where each image has a subject (docs/data.md)")
    if epsilon is None and directory is None:
        raise InvalidInput("give --epsilon, or an institution's folder with --dir")
    console = Screen()
    with console.status("starting"):
        from fedapt_secure.cli.work.planning.outlook import FederationSize  # noqa: PLC0415
        from fedapt_secure.cli.work.planning.plan import print_plan  # noqa: PLC0415 - brings torch, seconds
    print_plan(
        console,
        epsilon=epsilon,
        count=count,
        unit=unit_of(has_subjects=records is None),
        delta=delta,
        rounds=rounds,
        local_steps=local_steps,
        sample_rate=sample_rate,
        federation=FederationSize(institutions, classes, feature_size),
        folder=directory,
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
    annex: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a DPIA annex, a DP registry record, an AI Act evidence index."
        ),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="evaluation.json that an institution handed over, for page and annex; repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what ε, δ and the verdicts mean, and what is not proved.")
    ] = False,
) -> None:
    """Check logs as an outsider: are they whole, and what do they imply? Exit 0 says verified."""
    if explain:
        from fedapt_secure.audit.report.wording import explanation  # noqa: PLC0415

        say_lines(explanation())
        if not paths:
            return
    from fedapt_secure.cli.work.audit import run_audit  # noqa: PLC0415 - numpy and the template engine

    if not run_audit(
        Screen(), paths or [], trust=trust, as_json=as_json, html=html, annex=annex, scores=scores or []
    ):
        raise typer.Exit(ExitStatus.FAILED)


app.command()(simulate.simulate)
app.command()(compare.compare)
app.command()(paper.paper)
app.command()(use.predict)
app.command()(use.evaluate)
app.command()(use.export)
app.command("model-info")(use.model_info)
app.command()(documents.docs)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; errors become one line on standard error."""
    return guarded(lambda: _run(list(arguments)))


@cache
def _commands(encoding: str, narrow: bool) -> Any:
    """Return all commands with their options, once a layout: to make them takes half of a short command."""
    commands = typer.main.get_command(app)
    prepare_commands(commands, encoding, narrow=narrow)
    return commands


def _run(arguments: list[str]) -> int:
    try:
        status = _commands(*layout()).main(arguments, prog_name="fedapt-secure", standalone_mode=False)
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            say_lines(str(error))
        else:
            complain("error", error.format_message() if hasattr(error, "format_message") else error)
        return ExitStatus.BAD_INPUT
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:  # how rich says that nobody reads any more
        return ExitStatus.READER_GONE
    if status == ExitStatus.INTERRUPTED:  # Typer's way of passing on Ctrl-C
        raise KeyboardInterrupt
    return int(status or ExitStatus.DONE)
