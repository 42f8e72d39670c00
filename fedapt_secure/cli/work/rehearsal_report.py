"""What ``client rehearse`` and ``server rehearse`` show."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_secure.privacy.unit import counted
from fedapt_secure.protocol.reasons import meaning_of

if TYPE_CHECKING:
    from fedapt_client.rehearsal import Rehearsal
    from fedapt_secure.protocol.session import SessionConfiguration
    from fedapt_server.session.rehearsal import Answer

MOST_FILES_SHOWN = 20
NO_ANSWER = "no answer"


def rehearsal_fields(found: "Rehearsal") -> dict[str, Any]:
    """Return what was found for programs: every unused file is in it."""
    fields = asdict(found)
    fields["reason"] = None if found.reason is None else found.reason.value
    return fields


def print_rehearsal(out: Console, found: "Rehearsal", configuration: "SessionConfiguration") -> None:
    """Print what was found for people."""
    for title, text in _rows(found, configuration):
        out.print(f"{title:<14} {escape(text)}")
    _print_unused(out, found)
    if found.reason is None:
        out.print("[green]ready[/]: the session would be accepted; nothing is spent or on record")


def _rows(found: "Rehearsal", configuration: "SessionConfiguration") -> list[tuple[str, str]]:
    plan = configuration.plan
    rows = [("images", f"{found.training} for training, {found.tests} held out, of {found.records}")]
    rows += [("copies", sentence) for sentence in found.duplicates.in_words()]
    if found.lacking:
        rows.append(("classes", f"no image of {', '.join(found.lacking)}: allowed, and worth a second look"))
    if found.encoding_s is not None:
        rows.append(("encoding", f"{lasting(found.encoding_s)} for all images, once; they are encoded now"))
    if found.answer_s is not None and found.session_s is not None:
        rows.append(("a round", f"its update leaves after {lasting(found.answer_s)}"))
        rows.append(("session", f"{found.rounds} rounds, {lasting(found.session_s)} of computing here"))
    if found.slow:
        slow = f"the plan's round_timeout_s of {plan.round_timeout_s:g} s does not hold a round here"
        rows.append(("TOO SLOW", slow))
    rows.append(("on the wire", f"{size(found.bytes_down)} in, {size(found.bytes_up)} out, at most"))
    if found.free_bytes:
        rows.append(("disk", f"{size(found.disk_bytes)}, of {size(found.free_bytes)} free"))
    rows.append(("policy", found.policy_source))
    rows.append(("privacy", _privacy(found, configuration)))
    rows.append(("each sum", found.said_of_sums))
    return rows


def _privacy(found: "Rehearsal", configuration: "SessionConfiguration") -> str:
    if not configuration.plan.differential_privacy:
        return "none: differential privacy is off"
    if found.privacy is None:
        return "not known: see why the session would be refused"
    plan, before = found.privacy, found.privacy["spent_before"]
    records = f"{plan['declared_records']} {counted(plan['unit'])}"
    return (
        f"epsilon {plan['epsilon_planned']:.4g}, delta {plan['delta']:.3g} for {plan['max_steps']} steps on"
        f" {records}, noise multiplier {plan['noise_multiplier']:.4g}; {before['sessions']} sessions on these"
        " images before"
    )


def _print_unused(out: Console, found: "Rehearsal") -> None:
    if not found.unused:
        return
    if found.usage:
        out.print(f"{'in all':<14} {escape(found.usage)}")
    reasons = Counter(one.reason.split(":")[0] for one in found.unused)
    kinds = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    out.print(f"{'not used':<14} {len(found.unused)} files: {escape(kinds)}")
    for one in found.unused[:MOST_FILES_SHOWN]:
        out.print(f"{'':<14} {escape(one.name)}: {escape(one.reason)}")
    more = len(found.unused) - MOST_FILES_SHOWN
    if more > 0:
        out.print(f"{'':<14} and {more} more: --json lists all")


def answers_fields(answers: Mapping[str, "Answer | None"]) -> dict[str, Any]:
    """Return what institutions answered, for programs."""
    ready = [name for name, answer in answers.items() if answer is not None and answer.reason is None]
    return {
        "ready": len(ready) == len(answers),
        "institutions": {
            name: {"answered": answer is not None, **({} if answer is None else asdict(answer))}
            for name, answer in answers.items()
        },
    }


def print_answers(out: Console, answers: Mapping[str, "Answer | None"]) -> None:
    """Print one row an institution: ready, or the code, what it stands for and whom to call."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("institution", "answer", "encoding", "a round", "what to do"):
        table.add_column(title, overflow="fold")
    for name, answer in answers.items():
        if answer is None:
            table.add_row(escape(name), f"[yellow]{NO_ANSWER}[/]", "", "", "is its client running?")
            continue
        times = [f"up to {lasting(one)}" if one else "" for one in (answer.encoding_s, answer.round_s)]
        if answer.reason is None:
            table.add_row(escape(name), "[green]ready[/]", *times, "")
        else:
            meaning = meaning_of(answer.reason)
            table.add_row(escape(name), f"[red]{answer.reason}[/]", *times, f"{meaning.said}: {meaning.call}")
    out.print(table)


def lasting(seconds: float) -> str:
    """Return a time as people say it."""
    for unit, many in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * many:
            return f"{seconds / many:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, many in (("GB", 1e9), ("MB", 1e6)):
        if count >= many:
            return f"{count / many:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
