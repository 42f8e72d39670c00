"""The audit's answer on a terminal: verdict first, then the table, what is wrong, and what is not known."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_secure.audit.checks.spend import DatasetSpend
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement, PartyJudgement
from fedapt_secure.audit.report import wording

STYLE: Final = {
    Verdict.VERIFIED: "bold green",
    Verdict.OPEN: "bold yellow",
    Verdict.VIOLATED: "bold red",
    Verdict.TAMPERED: "bold white on red",
}
UNRELIABLE: Final = "?"
"""Stands for every figure that rests on altered records."""


def print_report(console: Console, judgement: Judgement) -> None:
    """Print the whole answer."""
    style = STYLE[judgement.verdict]
    console.print(f"[{style}]{escape(wording.headline(judgement))}[/]")
    console.print(escape(wording.claim(judgement)), highlight=False)
    for reason in judgement.self_attested:
        console.print(f"{wording.SELF_ATTESTED}: {escape(reason)}.", highlight=False)
    console.print(escape(wording.identities(judgement)), highlight=False)
    if judgement.findings:
        _print_findings(console, judgement)
    console.print(_table(judgement))
    for party in judgement.parties:
        console.print(escape(f"{party.party}: {wording.seen_until(party)}"), highlight=False)
    for sentence in wording.sums_said(judgement):
        console.print(escape(sentence), highlight=False)
    _print_list(console, "Sums that did not come", wording.waiting_said(judgement), wording.WAITING_SHOWN)
    _print_list(console, "Turned down", wording.refusals_said(judgement), wording.REFUSALS_SHOWN)
    _print_list(console, "Not checked, for want of evidence", judgement.unchecked, len(judgement.unchecked))
    console.print(escape(wording.not_proved()), highlight=False)


def _print_list(console: Console, title: str, items: Sequence[str], most: int) -> None:
    if not items:
        return
    console.print(f"[bold]{title}[/]")
    for item in items[:most]:
        console.print(f"  - {escape(item)}", highlight=False)
    if len(items) > most:
        console.print(f"  - and {len(items) - most} more", highlight=False)


def _print_findings(console: Console, judgement: Judgement) -> None:
    console.print("[bold]What is wrong[/]")
    for finding, more in judgement.grouped:
        style, others = STYLE[finding.verdict], f" (and {more} more of this kind)" if more else ""
        console.print(f"  [{style}]{finding.verdict}[/] {escape(str(finding))}{others}", highlight=False)


def _table(judgement: Judgement) -> Table:
    table = Table(
        title=f"ε of each institution and data set{wording.units_said(judgement.parties)}",
        title_justify="left",
        box=box.SIMPLE,
        padding=0,
    )
    left = {"institution", "verdict"}
    for column in (
        "institution",
        "verdict",
        "budget",
        "planned",
        "spent",
        "recomputed",
        "margin",
        "rounds",
        "refused",
    ):
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for party in judgement.parties:
        if party.is_coordinator:
            continue
        for position, spend in enumerate(party.spends):
            _add(table, party, spend, first=position == 0)
        if not party.spends and party.verdict is Verdict.TAMPERED:
            _row(table, party, (UNRELIABLE,) * 5, first=True)
        elif not party.spends:
            _row(table, party, ("—", "∞" if not party.private else "—", "—", "—", "—"), first=True)
    coordinator = next((party for party in judgement.parties if party.is_coordinator), None)
    if coordinator is not None:
        table.add_section()
        _row(table, coordinator, ("—",) * 5, first=True)
    return table


def _add(table: Table, party: PartyJudgement, spend: DatasetSpend, *, first: bool) -> None:
    if party.verdict is Verdict.TAMPERED:
        _row(table, party, (wording.budget_text(spend), *(UNRELIABLE,) * 4), first=first)
        return
    margin = wording.margin_text(spend)
    over = spend.margin is not None and spend.margin < 0
    cells = (
        wording.budget_text(spend),
        wording.number(spend.committed),
        wording.number(spend.spent),
        wording.number(spend.recomputed),
        f"[bold red]{margin}[/]" if over else margin,
    )
    _row(table, party, cells, first=first)


def _row(table: Table, party: PartyJudgement, cells: tuple[str, ...], *, first: bool) -> None:
    name = escape(party.party) if first else ""
    verdict = f"[{STYLE[party.verdict]}]{party.verdict}[/]" if first else ""
    rounds = str(party.contributed) if not party.is_coordinator else "—"
    refusals = str(party.refusal_count)
    table.add_row(name, verdict, *cells, rounds if first else "", refusals if first else "")
