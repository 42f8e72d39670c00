"""What ``server status`` shows, of what `fedapt_server.standing` found."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_secure.protocol.reasons import meaning_of
from fedapt_server.standing import STATES, doing_words


def print_status(out: Console, fields: dict[str, Any]) -> None:
    """Print what `status_fields` returned."""
    if not fields["running"]:
        out.print("the service does not run (or its health port is off); this is what its folder holds")
    elif not fields["ok"]:
        out.print("the service runs and is not ready: it begins just now, or has failed; look at its log")
    else:
        out.print("the service runs")
    if fields["session"] is not None:
        out.print(f"session    {fields['session']}, {STATES[fields['state']]}", markup=False)
        where = f"round {fields['round']} of {fields['rounds']}" if fields["round"] else "before round 1"
        details = f", attempt {fields['attempt']}" * bool(fields["round"])
        details += f", phase {fields['phase']}" * bool(fields["phase"])
        out.print(
            f"rounds     {where}{details}; {fields['completed']} completed, {fields['aborted']} aborted",
            markup=False,
        )
        out.print(f"each sum   {fields['said_of_sums']}", markup=False)
    if fields["report"]:
        out.print(f"report     {fields['report']}", markup=False)
    if fields["ends"]:
        out.print(f"rounds are probably over at {fields['ends'].replace('+00:00', ' UTC')}", markup=False)
    if fields["reason"]:
        out.print(f"no session is open: {fields['reason']}", markup=False)
    if not fields["institutions"]:
        out.print("no institutions are enrolled")
        return
    table = Table("institution", "connected", "last seen (UTC)", "doing")
    for name in fields["institutions"]:
        connected = "yes" if name in fields["connected"] else "no" if fields["running"] else ""
        seen = fields["last_seen"].get(name, "never").replace("+00:00", "")
        table.add_row(escape(name), connected, escape(seen), escape(doing_words(fields["doing"].get(name))))
    out.print(table)
    for name, doing in fields["doing"].items():
        if doing["reason"] is not None:
            meaning = meaning_of(doing["reason"])
            out.print(f"{name}: {meaning.said}; {meaning.call}", markup=False)
