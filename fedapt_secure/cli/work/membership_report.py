"""What ``server roster`` shows, of what `fedapt_server.membership.facts` found."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_membership(out: Console, fields: dict[str, Any]) -> None:
    """Print what `membership_fields` returned."""
    out.print(f"{fields['federation']}, coordinator {fields['coordinator_fingerprint']}", markup=False)
    if fields["revision"] is None:
        out.print("nobody is on the roster yet")
    else:
        out.print(f"roster revision {fields['revision']}, fingerprint {fields['roster_fingerprint']}")
    if fields["members"]:
        table = Table("institution", "domain", "certificate until", "state")
        table.add_column("fingerprint", no_wrap=True)
        for member in fields["members"]:
            if member["revoked"]:
                state = f"revoked {member['revoked'][:10]} {member['reason']}"
            else:
                state = "member" if member["entry_signed"] else "not signed"
            until = (member["certificate_ends"] or "")[:10]
            row = (member["name"], member["domain"], until, state.strip(), member["fingerprint"])
            table.add_row(*(escape(text) for text in row))
        out.print(table)
    if any(not (member["revoked"] or member["entry_signed"]) for member in fields["members"]):
        out.print(
            "not signed: not on the roster; enrolled before members signed their entries, has to run"
            " 'fedapt-secure client renew'"
        )
    for invitation in fields["invitations"]:
        state = "expired" if invitation["expired"] else "open until " + invitation["expires"][:16]
        out.print(f"invited: {invitation['name']} ({invitation['domain']}), {state}", markup=False)
