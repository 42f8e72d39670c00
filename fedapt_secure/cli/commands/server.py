"""``fedapt-secure server``: the commands of the coordinator's operator."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fedapt_crypto.errors import InvalidInput, RunFailed
from fedapt_secure.cli.commands import server_page
from fedapt_secure.cli.options import (
    STREAM,
    AsJson,
    Folder,
    PassphraseFile,
    change_passphrase,
    console,
    duration,
    new_folder,
    open_folder,
    read_input,
    write_output,
)
from fedapt_secure.cli.work.coordinator_folder import open_registrar as _registrar
from fedapt_secure.cli.work.coordinator_folder import read_server_settings as _settings
from fedapt_secure.process.streams import say, say_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedapt_secure.config.party_folder import PartyFolder
    from fedapt_server.settings import ServerSettings

app = typer.Typer(
    name="server",
    help="The coordinator: found a federation, invite institutions, run sessions, certify, revoke.",
    no_args_is_help=True,
)
app.command("page")(server_page.page)
HERE: Final = Path()


@app.command()
def init(
    directory: Folder = HERE,
    federation: Annotated[str, typer.Option(help="Name of the federation.")] = "federation",
    name: Annotated[str, typer.Option(help="The coordinator's own name.")] = "coordinator",
    address: Annotated[
        list[str] | None,
        typer.Option(help="Host name or IP address for institutions to use; repeatable (default localhost)."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - a server
    port: Annotated[int, typer.Option(help="Port of the rounds.")] = 8443,
    enrolment_port: Annotated[int, typer.Option(help="Port of enrolment, renewal and roster.")] = 8444,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Found a federation: authority, coordinator identity, certificate, annotated settings."""
    from fedapt_crypto.identity import fingerprint  # noqa: PLC0415
    from fedapt_secure.config.settings import build  # noqa: PLC0415
    from fedapt_server.membership.founding import check_free, found, write_settings  # noqa: PLC0415
    from fedapt_server.settings import ServerSettings  # noqa: PLC0415

    fields = {
        "federation": federation,
        "name": name,
        "addresses": tuple(address or ("localhost", "127.0.0.1")),
        "host": host,
        "port": port,
        "enrolment_port": enrolment_port,
    }
    settings = build(ServerSettings, fields, source="server init", as_options=True)
    folder = new_folder(directory, passphrase_file)
    check_free(folder)
    registrar = found(folder, settings)
    write_settings(folder, settings)
    out = console()
    out.print(f"founded {settings.federation!r} in {folder.path.resolve()}", markup=False)
    out.print(f"coordinator fingerprint  {fingerprint(registrar.coordinator_key)}", markup=False)
    out.print(
        f"next: look through {folder.path / 'server.yaml'}, back the folder up (ca.key above all), then"
        " invite:",
        markup=False,
    )
    out.print(f"  fedapt-secure server invite NAME --domain DOMAIN --dir {folder.path}", markup=False)


@app.command()
def invite(
    name: Annotated[str, typer.Argument(help="The institution's name: letters, digits, '.', '_' and '-'.")],
    domain: Annotated[str, typer.Option(help="Its domain (scanner, camera, style); several may share one.")],
    expires: Annotated[str, typer.Option(help="How long the invitation is valid: 12h, 7d, 2w.")] = "7d",
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Print a one-time join string for an institution."""
    valid_for = duration(expires)
    _check_names(name, domain)
    registrar = _registrar(directory, passphrase_file)
    join, withdrawn = registrar.invite(name, domain, valid_for)
    say(join.to_text())
    note = f"for {name!r} in domain {domain!r}, once, until {join.expires_at:%Y-%m-%d %H:%M} UTC"
    say(note + "; its earlier invitation is void" * withdrawn, err=True)
    say(
        "hand it over on a trusted way; 'fedapt-secure server run' or 'server enroll' must be running when"
        " it is used",
        err=True,
    )


@app.command()
def enroll(
    directory: Folder = HERE,
    once: Annotated[bool, typer.Option("--once", help="End after one institution has enrolled.")] = False,
    duration_text: Annotated[
        str | None, typer.Option("--for", help="End after this time: 1h, 2d (default: never).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Serve enrolment, renewal and roster on the enrolment port; logs to standard error."""
    seconds = None if duration_text is None else duration(duration_text).total_seconds()
    registrar = _registrar(directory, passphrase_file)
    from fedapt_secure.cli.work.running.enrolment_server import serve_enrolment  # noqa: PLC0415

    serve_enrolment(registrar, once=once, seconds=seconds, as_json=as_json)


@app.command()
def run(
    directory: Folder = HERE,
    config: Annotated[
        Path | None, typer.Option(help="Another settings file than server.yaml in the folder.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the session has ended.")] = False,
    new_session: Annotated[
        bool, typer.Option("--new-session", help="Begin a session also if session.yaml's has ended already.")
    ] = False,
    end_session: Annotated[
        bool,
        typer.Option("--end-session", help="End the session that is open, with the rounds completed so far."),
    ] = False,
    no_enrolment: Annotated[
        bool, typer.Option("--no-enrolment", help="Do not serve the enrolment port.")
    ] = False,
    json_log: Annotated[bool, typer.Option("--json-log", help="Log JSON lines.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Log lines, also on a terminal, in place of a live view.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info or warning.")] = "info",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Serve rounds, enrolment, health and metrics until stopped; logs to standard error.

    Resumes a session that has not ended; else begins the one in session.yaml if enough institutions are
    enrolled; else says what is missing, and serves.
    """
    from fedapt_secure.config.structured_log import configure  # noqa: PLC0415

    settings = _settings(directory, config)
    folder = open_folder(directory, passphrase_file)
    configure(json_log, log_level)
    from fedapt_server import running  # noqa: PLC0415

    options = running.Options(once, new_session, end_session, enrolment=not no_enrolment)
    from fedapt_secure.cli.work.running.live_facts import coordinator_view  # noqa: PLC0415

    with nullcontext() if plain or json_log else coordinator_view(directory, settings):
        running.run(folder, settings, options, on_end=_reporter(folder, settings))


def _reporter(folder: "PartyFolder", settings: "ServerSettings") -> "Callable[[str], Path]":
    """Return what writes a page of a session that has ended into the folder."""

    def report(session: str) -> Path:
        from fedapt_server.page.report import write_session_report  # noqa: PLC0415 - templates, the auditor

        return write_session_report(folder, settings, session)

    return report


@app.command()
def rehearse(
    directory: Folder = HERE,
    config: Annotated[
        Path | None, typer.Option(help="Another settings file than server.yaml in the folder.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Another plan than session.yaml in the folder.")] = None,
    wait: Annotated[
        str, typer.Option(help="How long to wait for who is not connected: 30s, 10m, 1h.")
    ] = "1m",
    as_json: AsJson = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Ask all institutions what the session would be there: one table, ready or why not; nothing is spent.

    In place of a running service, which is stopped meanwhile. Status 1 where not everybody is ready.
    """
    from fedapt_secure.config.structured_log import configure  # noqa: PLC0415

    settings = _settings(directory, config)
    wait_s = duration(wait).total_seconds()
    folder = open_folder(directory, passphrase_file)
    configure(json=False, level="info")
    from fedapt_secure.cli.work.rehearsal_report import answers_fields, print_answers  # noqa: PLC0415
    from fedapt_server.rehearsing import run_rehearsal  # noqa: PLC0415

    answers, all_ready = run_rehearsal(folder, settings, plan, wait_s)
    if as_json:
        say_json(answers_fields(answers))
    else:
        print_answers(console(), answers)
    if not all_ready:
        raise RunFailed("not every institution is ready: mend what the table says, and rehearse again")


@app.command()
def status(
    directory: Folder = HERE,
    config: Annotated[
        Path | None, typer.Option(help="Another settings file than server.yaml in the folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show rounds, who is connected and when each was seen last; of a stopped service what is stored."""
    settings = _settings(directory, config)
    from fedapt_secure.cli.work.service_report import print_status  # noqa: PLC0415
    from fedapt_server.standing import status_fields  # noqa: PLC0415

    fields = status_fields(directory, settings)
    if as_json:
        say_json(fields)
    else:
        print_status(console(), fields)


@app.command()
def model(
    out: Annotated[Path, typer.Option(help="Write the bundle to this file.")],
    directory: Folder = HERE,
    session: Annotated[str | None, typer.Option(help="Which session (default: the last that ended).")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the finished bundle of a session that lets the coordinator have it (bundle_for_coordinator)."""
    from fedapt_secure.cli.work.server_model import write_bundle  # noqa: PLC0415 - torch, seconds

    fields = write_bundle(directory, session, out)
    if as_json:
        say_json(fields)
        return
    for title, value in fields.items():
        say(f"{title:<8} {value}")


@app.command()
def sign(
    request: Annotated[
        Path,
        typer.Argument(
            help="The institution's request file ('client csr'), or - for standard input.", readable=False
        ),
    ],
    answer: Annotated[
        Path | None,
        typer.Option(
            help="Where the answer goes (default: NAME.answer); - for standard output.", readable=False
        ),
    ] = None,
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Answer an institution's request file: enrolment or renewal without a connection."""
    registrar = _registrar(directory, passphrase_file)
    from fedapt_crypto.errors import PeerError  # noqa: PLC0415
    from fedapt_secure.cli.work.paper import answer_file  # noqa: PLC0415

    registrar.certifier.check_clock()  # before an invitation is called expired by a wrong one
    try:
        name, data, lines = answer_file(registrar, read_input(request), str(request))
    except PeerError as error:
        raise InvalidInput(f"{request}: not signed: {error}") from None
    target = answer or Path(f"{name}.answer")
    write_output(target, data, "with --answer (and the same request again)")
    where = "this is the answer" if target == STREAM else f"answer in {target}"
    for line in (*lines, f"{where}: send it back, there is no secret in it"):
        say(line, err=target == STREAM)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="A member, or who was invited.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the records.")] = "",
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take an institution off the roster and its certificates out of use, or withdraw its invitation."""
    registrar = _registrar(directory, passphrase_file)
    if registrar.revoke(name, reason):
        say(
            f"{name!r} is off the roster, and its certificates are refused from now on."
            " The others approve the new roster."
        )
    else:
        say(f"the invitation of {name!r} is withdrawn")


@app.command()
def renew(
    directory: Folder = HERE,
    clock_is_right: Annotated[
        bool,
        typer.Option(
            "--clock-is-right",
            help="Also where this machine's clock does not fit the log or the certificate.",
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Renew the coordinator's own TLS certificate, for the addresses in its settings."""
    about = _registrar(directory, passphrase_file).renew_own(clock_is_right=clock_is_right)
    say(
        f"certificate of {about.name!r} renewed, valid until {about.not_after:%Y-%m-%d}; a running service"
        " takes it within a minute"
    )


@app.command()
def roster(
    directory: Folder = HERE,
    as_json: AsJson = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the signed roster to a file; - prints only it.", readable=False)
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show members, past ones too, and open invitations."""
    registrar = _registrar(directory, passphrase_file)
    from fedapt_secure.cli.work.membership_report import print_membership  # noqa: PLC0415
    from fedapt_server.membership.facts import membership_fields  # noqa: PLC0415

    if export is not None:
        from fedapt_secure.protocol.joining.enrolment import to_file  # noqa: PLC0415

        signed = registrar.roster_file()
        if signed is None:
            raise InvalidInput("there is no roster yet: nobody has enrolled")
        write_output(export, to_file(signed), "with --export")
        if export == STREAM:
            return
    fields = membership_fields(registrar)
    if as_json:
        say_json(fields)
    else:
        print_membership(console(), fields)


@app.command()
def passwd(
    directory: Folder = HERE,
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[Path | None, typer.Option(help="File with the new passphrase.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Store the keys without a passphrase.")] = False,
) -> None:
    """Set, change or remove the passphrase that protects the key files, the authority's among them."""
    folder = open_folder(directory, passphrase_file)
    for path in change_passphrase(folder, new_passphrase_file, remove):
        say(f"{path}: {'no passphrase' if remove else 'under the new passphrase'}")


def _check_names(name: str, domain: str) -> None:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    from fedapt_crypto.encoding import PartyName  # noqa: PLC0415

    try:
        TypeAdapter(PartyName).validate_python(name)
    except ValidationError:
        raise InvalidInput(
            f"{name!r} cannot be a name: up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        ) from None
    if not 1 <= len(domain) <= 256 or not domain.isprintable():
        raise InvalidInput("--domain: 1 to 256 printable characters")
