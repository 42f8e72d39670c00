"""What a person sees of a run: one progress line while it lasts, tables at the end."""

from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.log.line import LogEntry
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.simulate.results.privacy_table import print_privacy
from fedapt_secure.simulate.results.summary import Summary
from fedapt_secure.simulate.results.unseen_table import unseen_table
from fedapt_secure.simulate.setup.federation import Federation

KIB = 1024


class ProgressDisplay:
    """Turns log entries into one line: round, phase, and the largest ε spent so far.

    On a terminal the line is redrawn; elsewhere each round prints one line when it ends.
    """

    def __init__(self, console: Console, federation: Federation) -> None:
        self._console = console
        self._budget = federation.settings.epsilon
        self._caveat = " (NOT PRIVATE)" if federation.settings.insecure_deterministic_noise else ""
        self._institutions = len(federation.institutions)
        self._federated = method_facts(federation.settings.method).federated
        self._ready: set[str] = set()
        self._epsilon = 0.0
        self._encoded: dict[str, tuple[int, int]] = {}
        self._phase = "waiting for institutions" if self._federated else "working"
        self._progress = Progress(
            TextColumn("[bold]round" if self._federated else "[bold]institution"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[phase]:<26}"),
            TextColumn("{task.fields[privacy]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(
            "rounds",
            total=federation.settings.rounds if self._federated else self._institutions,
            phase=self._phase,
            privacy=self._privacy(),
        )

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def watch(self, party: str, entry: LogEntry) -> None:
        """Take one line of a party's log."""
        body = entry.body
        if entry.type == "spend":
            self._epsilon = max(self._epsilon, float(body["epsilon"]))
        elif party != COORDINATOR:
            # What ends the run is said once, as its error.
            if entry.type == "refused" and not (body.get("rule") and body["round"] == 0):
                self._warn(f"{party} refused: {body['detail']}")
            if entry.type == "session_ended" and not self._federated:
                self._progress.advance(self._task)
            return
        elif entry.type == "ready":
            self._ready.add(body["name"])
            if entry.seq and self._phase.startswith("waiting"):
                self._phase = f"waiting: {len(self._ready)} of {self._institutions} ready"
        elif entry.type == "round_started":
            self._phase = "training"
        elif entry.type == "phase":
            self._phase = body["phase"]
        elif entry.type == "closing":
            self._phase = "evaluation"
        elif entry.type == "round_ended":
            self._round_ended(body)
        self._progress.update(self._task, phase=self._phase, privacy=self._privacy())

    def encoding(self, institution: str, done: int, total: int) -> None:
        """Take note of how many of its images an institution has encoded; called from its thread."""
        self._encoded[institution] = (done, total)
        all_done, all_total = (sum(one) for one in zip(*self._encoded.values(), strict=True))
        if self._phase.startswith(("waiting", "working")) and all_done < all_total:
            self._progress.update(self._task, phase=f"encoding {all_done} of {all_total}")

    def _round_ended(self, body: Any) -> None:
        self._progress.advance(self._task)
        if body["dropped"] or body["status"] != "completed":
            names = ", ".join(body["dropped"]) or "nobody"
            detail = f": {body['detail']}" if body["detail"] else ""
            self._warn(f"round {body['round']} {body['status']}; vanished: {names}{detail}")
        elif not self._console.is_terminal:
            self._console.print(f"round {body['round']} {body['status']}, {self._privacy()}", highlight=False)

    def _warn(self, text: str) -> None:
        self._console.print(f"[yellow]{escape(text)}[/]", highlight=False)

    def _privacy(self) -> str:
        if self._budget is None:
            return "no differential privacy"
        return f"ε {self._epsilon:.2f} of {self._budget:g}{self._caveat}"


def print_result(console: Console, federation: Federation, summary: Summary) -> None:
    """Print the result tables and what to do next.

    Args:
        console: Where to.
        federation: The run.
        summary: What came out.
    """
    console.print(_accuracy_table(summary))
    if summary["unseen"] is not None:
        console.print(unseen_table(summary["unseen"], method_facts(summary["method"]).title))
    if not summary["parameters"]["trained"]:
        console.print("nothing was trained, so nothing was spent", highlight=False)
    elif summary["privacy"]:
        print_privacy(console, federation, summary)
    else:
        console.print("[bold yellow]no differential privacy: for experiments only[/]")
    completed = [r for r in summary["rounds"] if r["status"] == "completed"]
    if completed:
        seconds = median(r["seconds"] for r in completed)
        up = median(r["bytes_up"] for r in completed) / KIB
        down = median(r["bytes_down"] for r in completed) / KIB
        begun = len({r["round"] for r in summary["rounds"]})
        console.print(
            f"{len(completed)} of {begun} rounds completed; a round: {seconds:.2f} s,"
            f" {up:.0f} KiB up, {down:.0f} KiB down; {summary['seconds_total']:.0f} s in all"
            f" on {summary['device']}; secure aggregation: {summary['secure_aggregation']}",
            highlight=False,
        )
    size = summary["parameters"]
    if size["trained"]:
        share = f"{size['trained'] / size['model']:.2%}"
        console.print(f"{size['trained']:,} values trained, {share} of the model's", highlight=False)
    if summary["prior_weight"]:
        kept = f"prior weight {summary['prior_weight']:g}: so much of the model stays the untuned CLIP's"
        console.print(kept, highlight=False)
    console.print(
        f"Run folder: {federation.folder.path}   try next: {_next_step(federation)}",
        markup=False,
        soft_wrap=True,
    )


def _accuracy_table(summary: Summary) -> Table:
    facts = method_facts(summary["method"])
    table = Table(title="Accuracy on held-out images")
    routing = summary["routing"]
    own = summary["own_domain"]
    further = ("top-5", *(("right key",) if routing else ()), *(("own images",) if own else ()))
    for column in ("domain", "zero-shot", facts.title, "gain", *further):
        table.add_column(column, justify="left" if column == "domain" else "right")
    parts = [
        summary["accuracy"]["zero_shot"],
        summary["accuracy"][facts.name],
        summary["top_5"],
        *([routing] if routing else []),
        *([own] if own else []),
    ]
    for domain in parts[0]["per_domain"]:
        _add_row(table, escape(domain), [part["per_domain"][domain] for part in parts])
    table.add_section()
    _add_row(table, "[bold]mean", [part["mean"] for part in parts])
    return table


def _add_row(table: Table, name: str, shares: list[float]) -> None:
    zero_shot, tuned, top_5, *further = shares
    gain = 100 * (tuned - zero_shot)
    more = (f"{share:.1%}" for share in further)
    cells = (f"{zero_shot:.1%}", f"{tuned:.1%}", f"{gain:+.1f}", f"{top_5:.1%}", *more)
    table.add_row(name, *cells)


def _next_step(federation: Federation) -> str:
    settings = federation.settings
    if settings.dataset == "digits" and not settings.fail:
        return "fedapt-secure simulate --dataset digits-flipped"
    if not settings.fail:
        return "fedapt-secure simulate --fail clinic-3@2:masked_input"
    return "fedapt-secure plan --epsilon 8 --records 270"
