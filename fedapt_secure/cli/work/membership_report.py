"""What ``server roster`` shows: the records, as JSON or as tables."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_crypto.identity import fingerprint, grouped
from fedapt_server.membership.registrar import Registrar


def membership_fields(registrar: Registrar) -> dict[str, Any]:
    """Return members, open invitations and the roster's revision; nothing secret."""
    membership = registrar.membership
    signed = registrar.roster_file()
    return {
        "federation": registrar.settings.federation,
        "coordinator_fingerprint": fingerprint(registrar.coordinator_key),
        "domains": list(membership.domains),
        "revision": None if signed is None else signed.revision,
        "roster_fingerprint": None if signed is None else grouped(signed.content.hash),
        "members": [
            {
                "name": member.name,
                "domain": member.domain,
                "fingerprint": fingerprint(member.identity_key),
                "entry_signed": member.entry_signature is not None,
                "joined": _time(member.joined),
                "certificate_ends": None
                if member.certificate_ends is None
                else _time(member.certificate_ends),
                "revoked": None if member.revoked is None else _time(member.revoked),
                "reason": member.reason,
            }
            for member in membership.members
        ],
        "invitations": [
            {
                "name": invitation.name,
                "domain": membership.domains[invitation.domain_index],
                "expires": _time(invitation.expires),
                "expired": invitation.expires <= registrar.now(),
                "failed_attempts": invitation.attempts,
            }
            for invitation in membership.open_invitations
        ],
    }


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


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
