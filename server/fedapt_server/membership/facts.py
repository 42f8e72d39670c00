"""Who is a member, who is invited, and which roster holds: for people, nothing secret."""

from datetime import UTC, datetime
from typing import Any

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


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
