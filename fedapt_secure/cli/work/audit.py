"""The work of ``fedapt-secure audit``: read, judge, and answer in the form that was asked for."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement, audit
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
    annex: Path | None = None,
    scores: Sequence[str] = (),
) -> bool:
    """Audit some paths and print the answer; return whether the verdict is VERIFIED.

    Raises:
        InvalidInput: If something cannot be read, or the page or the annex cannot be written.
    """
    if html is not None and not html.parent.is_dir():
        raise InvalidInput(f"cannot write {html}: there is no folder {html.parent}")
    if annex is not None:
        from fedapt_secure.audit.report.annex import check_annex_folder  # noqa: PLC0415 - for those who ask

        check_annex_folder(annex)
    if scores and html is None and annex is None:
        raise InvalidInput("--scores goes into a page or an annex: give --html or --annex as well")
    with console.status("reading the logs"):
        judgement = audit(paths, trust)
    written: list[tuple[str, Path]] = []
    if html is not None or annex is not None:
        with console.status("writing"):
            written = _write(judgement, paths, html, annex, scores)
    if as_json:
        say_json(to_fields(judgement))
    else:
        print_report(console, judgement)
        for what, path in written:
            console.print(f"{what}: {path}", markup=False, soft_wrap=True)
    return judgement.verdict is Verdict.VERIFIED


def _write(
    judgement: Judgement, paths: Sequence[Path], html: Path | None, annex: Path | None, scores: Sequence[str]
) -> list[tuple[str, Path]]:
    """Write page and annex; return what is where."""
    from fedapt_secure.audit.report.annex import write_annex  # noqa: PLC0415 - for those who ask
    from fedapt_secure.audit.report.dossier import dossier, known_institutions, plans  # noqa: PLC0415
    from fedapt_secure.audit.report.handed_over import read_handed_over  # noqa: PLC0415

    classes = next((plan.class_names for plan in plans(judgement)), ())
    found = read_handed_over(scores, known_institutions(judgement), classes)
    whole = dossier(judgement, paths, found)
    written = []
    if html is not None:
        from fedapt_secure.audit.report.html import to_html  # noqa: PLC0415 - the template engine

        try:
            write_atomically(html, to_html(whole).encode(), mode=PUBLIC_FILE_MODE)
        except OSError as error:
            raise system_error(f"cannot write {html}", error) from None
        written.append(("Page for the file", html))
    if annex is not None:
        written += [("Annex", path) for path in write_annex(annex, whole)]
    return written
