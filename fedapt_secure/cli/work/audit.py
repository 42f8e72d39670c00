"""The work of ``fedapt-secure audit``: read, judge, and answer in the form that was asked for."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import audit
from fedapt_secure.audit.report.json_answer import to_fields
from fedapt_secure.audit.report.text import print_report
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE
from fedapt_secure.process.streams import say_json


def run_audit(
    console: Console,
    paths: Sequence[Path],
    *,
    trust: Path | None,
    as_json: bool,
    html: Path | None,
) -> bool:
    """Audit some paths and print the answer; return whether the verdict is VERIFIED.

    Raises:
        InvalidInput: If something cannot be read, or the page cannot be written.
    """
    if html is not None and not html.parent.is_dir():
        raise InvalidInput(f"cannot write {html}: there is no folder {html.parent}")
    with console.status("reading the logs"):
        judgement = audit(paths, trust)
    if html is not None:
        from fedapt_secure.audit.report.html import to_html  # noqa: PLC0415 - the template engine

        try:
            write_atomically(html, to_html(judgement, paths).encode(), mode=PUBLIC_FILE_MODE)
        except OSError as error:
            raise system_error(f"cannot write {html}", error) from None
    if as_json:
        say_json(to_fields(judgement))
    else:
        print_report(console, judgement)
        if html is not None:
            console.print(f"Page for the file: {html}", markup=False, soft_wrap=True)
    return judgement.verdict is Verdict.VERIFIED
