"""``fedapt-secure client run``, ``status`` and ``model``: taking part, and what came of it."""

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedapt_crypto.errors import InvalidInput, RunFailed
from fedapt_secure.cli.options import AsJson, Folder, PassphraseFile, console, open_folder
from fedapt_secure.cli.options import ask as ask_people
from fedapt_secure.process.streams import say, say_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedapt_client.endings import Outcome
    from fedapt_client.settings import ClientSettings
    from fedapt_secure.config.party_folder import PartyFolder
    from fedapt_secure.learning.data.features.merging import Duplicates
    from fedapt_secure.protocol.session import SessionConfiguration
    from fedapt_secure.web.serving import PageServer

HERE: Final = Path()
CLOSE_RETRY_S: Final = 900.0
"""A coordinator that is started again within this time still gets our signature closed into its record."""
_MODEL_FACTS: Final = (
    "path",
    "sha256",
    "session",
    "origin",
    "bundle_format",
    "method",
    "trained_values",
    "model",
    "weight_hash",
    "model_hash",
    "logit_scale",
)
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def run(
    directory: Folder = HERE,
    data: Annotated[
        Path | None, typer.Option(help="The images, instead of those that client.yaml names.")
    ] = None,
    approve: Annotated[
        str | None, typer.Option(help="Hash of the session to take part in, instead of being asked.")
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="After a session wait for the next one.")] = False,
    as_json: AsJson = False,
    json_log: Annotated[
        bool, typer.Option("--json-log", help="What happens goes to standard error as JSON lines.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Log lines, also on a terminal, in place of a live view.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info or warning.")] = "info",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take part in the coordinator's session; run it again after any interruption, it goes on."""
    from fedapt_client.books.approval import Approvals  # noqa: PLC0415
    from fedapt_secure.cli.work.running.encoding_bar import EncodingBar  # noqa: PLC0415
    from fedapt_secure.config.structured_log import configure  # noqa: PLC0415

    # A service's journal takes both streams: there everything is JSON lines, for people nothing is.
    as_json = as_json or (json_log and not sys.stdout.isatty())
    indent = None if json_log else 2
    given = None if approve is None else "".join(approve.split()).lower()
    if given is not None and not _HASH.fullmatch(given):
        raise InvalidInput("--approve takes the whole hash of a session, 64 hexadecimal digits")
    configure(json=json_log, level=log_level)
    folder = open_folder(directory, passphrase_file)
    settings = read_settings(folder)
    # Relative to where the command is run, as client.yaml says.
    settings = settings.model_copy(update={"data": (data or settings.data).absolute()})

    served: PageServer | None = None

    def show(configuration: "SessionConfiguration") -> None:
        _show_offer(configuration, settings, folder.path, as_json=as_json, indent=indent)
        if served is not None:
            say_of_page(served, as_json=as_json)

    def ask(configuration: "SessionConfiguration") -> bool:
        with view.paused():
            show(configuration)
            return ask_people("Does this institution take part?", err=True)

    def show_duplicates(found: "Duplicates") -> None:
        if not as_json:
            _on_terminal(found.in_words())

    if not as_json:
        _show_balance(settings, None)
    on_page = settings.page is not None
    somebody = sys.stdin.isatty() and not on_page
    approvals = Approvals(
        folder.path, given=given, ask=ask if somebody else None, show=show, elsewhere=on_page
    )

    from fedapt_client.membership.connecting import Place  # noqa: PLC0415
    from fedapt_client.membership.desk import check_certificate  # noqa: PLC0415

    check_certificate(folder, Place(settings.host, settings.enrolment_port, settings.proxy))
    from fedapt_client.runner import InstitutionRunner, run_until_stopped  # noqa: PLC0415 - torch, seconds
    from fedapt_secure.cli.work.running.live_facts import institution_facts  # noqa: PLC0415
    from fedapt_secure.cli.work.running.live_view import LiveView  # noqa: PLC0415

    facts = institution_facts(folder.path, folder.path / settings.log)
    view = LiveView(settings.name, facts, wanted=not (plain or json_log or as_json))
    with ExitStack() as open_:
        if on_page:
            from fedapt_secure.cli.work.running.page import serve_page  # noqa: PLC0415

            served = serve_page(folder.path, settings)
            open_.callback(served.stop)
            say_of_page(served, as_json=as_json)
        bar = open_.enter_context(EncodingBar(wanted=not (json_log or view.shown)))
        open_.enter_context(view)
        runner = InstitutionRunner(
            folder.path,
            settings,
            retry_for_s=None,
            close_retry_s=CLOSE_RETRY_S,
            stay=stay,
            approvals=approvals,
            passphrase=folder.passphrase,
            progress=bar,
            on_duplicates=show_duplicates,
            on_end=_reporter(folder, settings),
        )
        outcome = run_until_stopped(runner)
    _report(outcome, as_json=as_json)


def status(directory: Folder = HERE, as_json: AsJson = False, passphrase_file: PassphraseFile = None) -> None:
    """Show where this institution stands, from its folder alone."""
    from fedapt_client.activity_words import activity_line, session_state  # noqa: PLC0415
    from fedapt_client.status import describe  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    fields = describe(folder, read_settings(folder))
    if as_json:
        say_json(fields)
        return
    roster, last = fields["roster"], fields["last_line"]
    say(f"{fields['name']!r} in {fields['federation']!r}, domain {fields['domain']!r}")
    say(f"certificate   until {fields['certificate_until'][:10]}")
    say(f"roster        {_people(roster)}")
    policy = fields["policy"]
    allowed = f"epsilon {policy['max_epsilon']:g} over all sessions, {policy['session_epsilon']:g} in one"
    say(f"policy        {policy['source']}: {allowed}")
    say(f"running       {activity_line(fields)}")
    said = "empty" if last is None else f"line {last['seq']}, {last['type']}, {last['time']}"
    say(f"log           {said}")
    for session in fields["sessions"]:
        state = session_state(session)
        spent = session["spent"]
        cost = "" if spent is None else f", {spent['steps']} of {spent['max_steps']} steps spent"
        if spent is not None and spent["epsilon_budget"] is not None:
            cost += f" (epsilon {spent['epsilon_budget']:g} at most)"
        rounds = f"{session['rounds_joined']} rounds joined, {session['rounds_completed']} completed"
        say(f"session       {session['session']}: {state}, {rounds}{cost}")


def model(
    directory: Folder = HERE,
    session: Annotated[str | None, typer.Option(help="Which session (default: the last).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the bundle to this file.")] = None,
    as_json: AsJson = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Describe the finished model in the folder, or fetch it from the coordinator where it is not there."""
    from fedapt_client.training.bundles import obtain  # noqa: PLC0415 - torch, seconds

    folder = open_folder(directory, passphrase_file)
    fields = obtain(folder, read_settings(folder), session, out)
    if as_json:
        say_json(fields)
        return
    for title in _MODEL_FACTS:
        say(f"{title:<15} {fields[title] if fields[title] is not None else 'not known'}")
    weights = "in the package, or as the name says" if fields["pretrained"] is None else fields["pretrained"]
    say(f"{'pretrained':<15} {weights}")
    say(f"{'classes':<15} {len(fields['class_names'])}: {', '.join(fields['class_names'][:20])}")
    say(f"{'domains':<15} {', '.join(fields['domains'])}")


def read_settings(folder: "PartyFolder") -> "ClientSettings":
    """Return what the institution's ``client.yaml`` says.

    Raises:
        InvalidInput: If there are none, or they cannot be used.
    """
    from fedapt_client import settings  # noqa: PLC0415

    if not (folder.path / settings.SETTINGS_FILE).exists():
        raise InvalidInput(
            f"{folder.path.resolve()} is not an institution's folder: run 'fedapt-secure client enroll',"
            " or name the folder with --dir"
        )
    return settings.read_settings(folder.path)


def _reporter(folder: "PartyFolder", settings: "ClientSettings") -> "Callable[[str], Path]":
    """Return what writes a page of a session that has ended into the folder."""

    def report(session: str) -> Path:
        from fedapt_client.page.report import write_session_report  # noqa: PLC0415

        return write_session_report(folder, settings, session)

    return report


def _show_offer(
    configuration: "SessionConfiguration",
    settings: "ClientSettings",
    folder: Path,
    *,
    as_json: bool,
    indent: int | None,
) -> None:
    from fedapt_client.books.in_force import policy_in_force  # noqa: PLC0415
    from fedapt_client.offer_facts import offer_fields  # noqa: PLC0415
    from fedapt_client.page.offer_file import write_offer  # noqa: PLC0415
    from fedapt_secure.cli.work.offer_report import print_offer  # noqa: PLC0415

    in_force = policy_in_force(folder, settings)
    fields = offer_fields(configuration, settings, in_force.policy, in_force.source)
    write_offer(folder, fields)
    if as_json:
        say_json({"offer": fields}, indent=indent)
    else:
        print_offer(fields)
        _show_balance(settings, configuration.plan.class_names)


def say_of_page(served: "PageServer", *, as_json: bool) -> None:
    """Say where the page is; a link, which lets somebody in, only to who sits here and not to a journal."""
    if as_json or not sys.stderr.isatty():
        say("the page is served; for a link run 'fedapt-secure client page' in this folder", err=True)
        return
    from fedapt_secure.web.access import Role  # noqa: PLC0415

    say(f"the page, by a link that works once: {served.link(Role.DECIDES)}", err=True)


def _show_balance(settings: "ClientSettings", class_names: tuple[str, ...] | None) -> None:
    """Show the institution its own class counts on a terminal; a pipe or a service's journal is a log."""
    out = console()
    if out.is_terminal:
        from fedapt_secure.cli.work.balance_report import print_balance  # noqa: PLC0415

        print_balance(out, settings.data, class_names, settings.reading)


def _on_terminal(sentences: tuple[str, ...]) -> None:
    """Say what follows from the images to who sits here; elsewhere it would be kept."""
    out = console()
    if out.is_terminal:
        for sentence in sentences:
            out.print(sentence, style="yellow", markup=False, highlight=False)


def _people(roster: dict[str, Any] | None) -> str:
    if roster is None:
        return "none is approved: run 'fedapt-secure client roster show'"
    return f"{len(roster['institutions'])} institutions: {', '.join(roster['institutions'])}"


def _report(outcome: "Outcome | None", *, as_json: bool) -> None:
    if outcome is None:
        raise RunFailed("the session has ended and left no model here: the log says why")
    if outcome.model is None:
        raise RunFailed(
            f"session {outcome.session} has ended without a completed round: there is no finished model of"
            " it, and models of earlier sessions are as they were"
        )
    scores = outcome.scores
    count = scores["test_records"]
    fedapt = scores["tuned_correct"] / count if count else None
    zero_shot = scores["zero_shot_correct"] / count if count else None
    report = outcome.model.with_suffix(".html")
    fields = {
        "session": outcome.session,
        "model": str(outcome.model),
        "report": str(report) if report.exists() else None,
        "test_records": count,
        "unlabelled_test_records": scores.get("unlabelled_test_records", 0),
        "fedapt_accuracy": fedapt,
        "zero_shot_accuracy": zero_shot,
    }
    if as_json:
        say_json({"finished": fields}, indent=None)
        return
    out = console()
    out.print(f"session {outcome.session} has ended; the finished model: {outcome.model}", markup=False)
    if fields["report"]:
        out.print(f"what came of it, as a page: {fields['report']}", markup=False)
    if fedapt is None or zero_shot is None:
        out.print("no held-out image here has a label: how well the model does was not measured")
        return
    left_out = fields["unlabelled_test_records"]
    beside = f" ({left_out} more have no label)" if left_out else ""
    out.print(
        f"on {count} held-out images{beside}, which stay here: FedAPT {fedapt:.1%}, without tuning"
        f" {zero_shot:.1%}",
        markup=False,
    )
