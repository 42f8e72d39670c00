"""``fedapt-secure client``: the commands of an institution's people."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from fedapt_crypto.errors import InvalidInput, PeerError, RunFailed
from fedapt_secure.cli.commands import client_page, client_rehearse, client_run
from fedapt_secure.cli.commands.client_ledger import ledger_app
from fedapt_secure.cli.options import (
    STREAM,
    AsJson,
    Folder,
    PassphraseFile,
    ask,
    ask_secret,
    change_passphrase,
    new_folder,
    open_folder,
    read_input,
    write_output,
)
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.process.interrupts import left_to_asyncio
from fedapt_secure.process.streams import say, say_json

if TYPE_CHECKING:
    from fedapt_client.membership.connecting import Place
    from fedapt_secure.config.party_folder import PartyFolder
    from fedapt_secure.protocol.joining.enrolment import RosterFile
    from fedapt_secure.protocol.joining.join_string import JoinString

app = typer.Typer(
    name="client",
    help="An institution: enrol, approve the roster, take part, find out what is wrong.",
    no_args_is_help=True,
)
roster_app = typer.Typer(
    name="roster", help="Who takes part: show the current roster, approve it.", no_args_is_help=True
)
app.command("run")(client_run.run)
app.command("page")(client_page.page)
app.command("rehearse")(client_rehearse.rehearse)
app.command("status")(client_run.status)
app.command("model")(client_run.model)
app.add_typer(roster_app)
app.add_typer(ledger_app, name="ledger")
HERE: Final = Path()
Returned = TypeVar("Returned")
RosterPath = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="A roster that came as a file (- for standard input), instead of fetching it.",
        readable=False,
    ),
]


@app.command()
def enroll(
    join: Annotated[
        str, typer.Argument(help="- to read the join string from standard input (the default), or itself.")
    ] = "-",
    directory: Folder = HERE,
    data: Annotated[
        Path, typer.Option(help="The images: a folder CLASS/IMAGE, or a CSV file path,label.")
    ] = Path("data"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    proxy: Annotated[
        str | None, typer.Option(help="Outbound proxy: http://[NAME:PASSWORD@]HOST:PORT.")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make this institution's keys, here, and get them certified; interrupted, run it again."""
    from fedapt_client.membership import desk, enrolment  # noqa: PLC0415
    from fedapt_secure.config.locking import locked  # noqa: PLC0415

    read = _join_string(join)
    _check_options(read.name, proxy, device)
    folder = new_folder(directory, passphrase_file)
    folder.make()
    with locked(folder.path / ".lock", wait=False):
        request = enrolment.begin(folder, read)
        if request is not None:
            answer, host = _run(desk.enrol(folder, read, request, proxy))
            options = enrolment.Options(host=host, proxy=proxy, data=data, device=device)
            _blaming(enrolment.finish, folder, read, request, answer, options)
    _report_enrolled(folder)


@app.command()
def csr(
    join: Annotated[
        str | None,
        typer.Argument(help="- to read the join string from standard input; nothing to renew a certificate."),
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(
            help="Where the request goes (default: NAME.request); - for standard output.", readable=False
        ),
    ] = None,
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a request file for 'server sign', where no connection to the coordinator is possible."""
    from fedapt_client.membership import enrolment  # noqa: PLC0415
    from fedapt_secure.protocol.joining.enrolment import Renewal, Request, to_file  # noqa: PLC0415

    asked: Request | Renewal | None
    if join is None:
        folder = open_folder(directory, passphrase_file)
        federation = enrolment.load_federation(folder)
        asked, name = enrolment.begin_renewal(folder, federation), federation.name
    else:
        read = _join_string(join)
        folder = new_folder(directory, passphrase_file)
        asked, name = enrolment.begin(folder, read), read.name
        if asked is None:
            raise InvalidInput(
                f"{directory} is enrolled already; for a new certificate leave the join string out"
            )
    target = request or Path(f"{name}.request")
    write_output(target, to_file(asked), "with --request")
    where = "this is the request" if target == STREAM else f"request in {target}"
    say(f"{where}: send it to the coordinator's operator, there is no secret in it", err=target == STREAM)
    say("then: fedapt-secure client install-cert ANSWER", err=target == STREAM)


@app.command("install-cert")
def install_cert(
    answer: Annotated[
        Path,
        typer.Argument(help="The answer file from 'server sign', or - for standard input.", readable=False),
    ],
    data: Annotated[
        Path, typer.Option(help="The images: a folder CLASS/IMAGE, or a CSV file path,label.")
    ] = Path("data"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Install the answer to a request file, after checking that it is the right one."""
    from fedapt_client.membership import enrolment  # noqa: PLC0415
    from fedapt_secure.protocol.joining.enrolment import Certified, from_file  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    certified = from_file(read_input(answer), Certified, str(answer))
    options = enrolment.Options(data=data, device=device)
    try:
        enrolment.finish_from_file(folder, certified, options)
    except PeerError as error:
        raise InvalidInput(f"{answer}: not installed: {error}") from None
    _report_enrolled(folder)


@app.command()
def renew(
    directory: Folder = HERE,
    if_due: Annotated[bool, typer.Option("--if-due", help="Only in the last third of its validity.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Renew this institution's TLS certificate, with the current one."""
    from fedapt_client.membership import desk, enrolment  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    federation = enrolment.load_federation(folder)
    if if_due and not enrolment.renewal_due(folder):
        say(f"not due: the certificate is valid until {folder.certificate().not_after:%Y-%m-%d}")
        return
    until = _run(desk.renew(folder, federation, _place(folder)))
    say(f"certificate renewed, valid until {until:%Y-%m-%d}")


@roster_app.command()
def show(
    directory: Folder = HERE,
    file: RosterPath = None,
    as_json: AsJson = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show the coordinator's current roster, and what changed against the approved one."""
    from fedapt_client.membership import rosters  # noqa: PLC0415
    from fedapt_secure.cli.work.roster_report import print_roster, roster_fields  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    offered = _offered(folder, file)
    _blaming(rosters.check, folder, offered)
    fields = roster_fields(folder, offered)
    if as_json:
        say_json(fields)
    else:
        print_roster(fields)


@roster_app.command()
def approve(
    directory: Folder = HERE,
    file: RosterPath = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(help="The roster's fingerprint, as compared by telephone; instead of being asked."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Approve the current roster: from now on everything is verified against it."""
    from fedapt_client.membership import rosters  # noqa: PLC0415
    from fedapt_secure.cli.work.roster_report import print_roster, roster_fields  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    offered = _offered(folder, file)
    roster = _blaming(rosters.check, folder, offered)
    actual = rosters.roster_fingerprint(roster)
    if fingerprint is None:
        if not sys.stdin.isatty():
            raise InvalidInput(
                "nobody can be asked: compare the fingerprint in 'fedapt-secure client roster show' by"
                " telephone and give it with --fingerprint"
            )
        print_roster(roster_fields(folder, offered))
        ask("Do the others read out the same roster fingerprint?", abort=True)
    elif "".join(fingerprint.split()).lower() != "".join(actual.split()):
        raise InvalidInput(
            f"not approved: the current roster has the fingerprint {actual}; if that is not what the others"
            " have, do not go on"
        )
    _blaming(rosters.approve, folder, offered)
    say(f"approved: roster revision {offered.revision}, {len(roster.members)} institutions")
    say(f"roster fingerprint  {actual}")


@app.command()
def doctor(
    directory: Folder = HERE,
    model: Annotated[str, typer.Option(help="The session's open_clip model.")] = "tiny",
    pretrained: Annotated[str | None, typer.Option(help="Its weights: tag or file.")] = None,
    as_json: AsJson = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Check everything a session needs; each line is ok or says what to do. Exit status 1 if one is wrong."""
    from fedapt_client.doctor import examine  # noqa: PLC0415
    from fedapt_secure.cli.work.doctor_report import findings_fields, print_findings  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    findings = examine(folder, model, pretrained)
    if as_json:
        say_json(findings_fields(findings))
    else:
        print_findings(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(ExitStatus.FAILED)


@app.command()
def passwd(
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[Path | None, typer.Option(help="File with the new passphrase.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Store the keys without a passphrase.")] = False,
) -> None:
    """Set, change or remove the passphrase that protects the key files."""
    folder = open_folder(directory, passphrase_file)
    for path in change_passphrase(folder, new_passphrase_file, remove):
        say(f"{path}: {'no passphrase' if remove else 'under the new passphrase'}")


def _join_string(text: str) -> "JoinString":
    from fedapt_secure.protocol.joining.join_string import JoinString  # noqa: PLC0415

    if text == "-":
        given = ask_secret("join string") if sys.stdin.isatty() else sys.stdin.read(1 << 16)
        return JoinString.from_text(given)
    join = JoinString.from_text(text)
    say(
        "warning: a join string on the command line can be read by everybody on this machine, and stays in"
        " the shell's history: give - and the string on standard input",
        err=True,
    )
    return join


def _place(folder: "PartyFolder") -> "Place":
    from fedapt_client.membership.connecting import Place  # noqa: PLC0415

    settings = client_run.read_settings(folder)
    return Place(settings.host, settings.enrolment_port, settings.proxy)


def _check_options(name: str, proxy: str | None, device: str) -> None:
    """Refuse what the settings file would not take, before anything is made or sent."""
    from fedapt_client.settings import ClientSettings  # noqa: PLC0415
    from fedapt_secure.config.settings import build  # noqa: PLC0415

    fields = {"name": name, "port": 8443, "data": "data", "proxy": proxy, "device": device}
    build(ClientSettings, fields, source="client enroll", as_options=True)


def _offered(folder: "PartyFolder", file: Path | None) -> "RosterFile":
    from fedapt_client.membership import desk  # noqa: PLC0415
    from fedapt_client.membership.enrolment import load_federation  # noqa: PLC0415
    from fedapt_secure.protocol.joining.enrolment import RosterFile, from_file  # noqa: PLC0415

    load_federation(folder)
    if file is None:
        return _run(desk.fetch_roster(folder, _place(folder)))
    return from_file(read_input(file), RosterFile, str(file))


def _report_enrolled(folder: "PartyFolder") -> None:
    from fedapt_client.membership.enrolment import load_federation  # noqa: PLC0415
    from fedapt_crypto.identity import fingerprint  # noqa: PLC0415

    federation = load_federation(folder)
    until = folder.certificate().not_after
    say(
        f"{federation.name!r} is enrolled in {federation.federation!r}, domain {federation.domain!r};"
        f" certificate until {until:%Y-%m-%d}"
    )
    say(f"own fingerprint          {fingerprint(folder.identity().public_key)}")
    say(f"coordinator fingerprint  {federation.coordinator_fingerprint}")
    say("compare both by telephone with the coordinator's operator; then: fedapt-secure client roster show")


def _run(work: Coroutine[Any, Any, Returned]) -> Returned:
    """Run what talks to the coordinator; a peer's mistake is not the user's."""
    import asyncio  # noqa: PLC0415 - not needed for --help

    try:
        with left_to_asyncio():
            return asyncio.run(work)
    except PeerError as error:
        raise RunFailed(f"the coordinator breaks the protocol, nothing was changed: {error}") from None


def _blaming(check: Any, *arguments: Any) -> Any:
    """Run a check of what the coordinator sent."""
    try:
        return check(*arguments)
    except PeerError as error:
        raise RunFailed(str(error)) from None
