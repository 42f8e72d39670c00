"""What ``client roster`` shows: members, fingerprints, and what changed against the approved roster."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from fedapt_client.membership import rosters
from fedapt_crypto.identity import fingerprint
from fedapt_secure.cli.options import console
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining.enrolment import RosterFile


def roster_fields(folder: PartyFolder, offered: RosterFile) -> dict[str, Any]:
    """Return an offered roster, which was checked, for people or programs."""
    before = rosters.approved(folder)
    roster = offered.content
    return {
        "federation": offered.federation,
        "revision": offered.revision,
        "changed": offered.changed_at.isoformat(),
        "roster_fingerprint": rosters.roster_fingerprint(roster),
        "roster_hash": roster.hash.hex(),
        "coordinator_fingerprint": fingerprint(roster.coordinator_key),
        "approved": rosters.is_approved(folder, offered),
        "approved_revision": None if before is None else before.revision,
        "members": [
            {
                "name": member.name,
                "domain": offered.domains[member.domain_index],
                "fingerprint": fingerprint(member.identity_key),
            }
            for member in roster.members
        ],
        "changes": [
            {"name": change.name, "what": change.what} for change in rosters.changes(before, offered)
        ],
    }


def print_roster(fields: dict[str, Any]) -> None:
    """Print what `roster_fields` returned."""
    out = console()
    out.print(
        f"{fields['federation']}: roster revision {fields['revision']} of {fields['changed'][:16]} UTC",
        markup=False,
    )
    table = Table("institution", "domain", "fingerprint")
    for member in fields["members"]:
        table.add_row(*(escape(text) for text in member.values()))
    out.print(table)
    out.print(f"coordinator fingerprint  {fields['coordinator_fingerprint']}")
    out.print(f"roster fingerprint       {fields['roster_fingerprint']}")
    if fields["approved"]:
        out.print("this is the approved roster")
        return
    earlier = fields["approved_revision"]
    out.print(
        "not approved yet" if earlier is None else f"changes against revision {earlier}, approved here:"
    )
    for change in fields["changes"] if earlier is not None else ():
        out.print(f"  {change['name']} {change['what']}", markup=False)
    out.print("compare the roster fingerprint by telephone, then: fedapt-secure client roster approve")
