"""Rosters whose entries their members have signed, as enrolment makes them."""

import json
from collections.abc import Iterable

from fedapt_crypto.encoding import encode
from fedapt_crypto.identity import Identity, fingerprint_bytes
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Member, Roster, sign_entry
from fedapt_secure.config.party_folder import roster_to_json

AUTHORITY = bytes(range(32))
"""The fingerprint of an authority that nobody needs."""
Entry = tuple[str, Identity, bytes, int]
"""Name, identity, public sealing key, index of the domain."""


def roster_of(coordinator_key: bytes, entries: Iterable[Entry], authority: bytes = AUTHORITY) -> Roster:
    """Return a roster of some institutions."""
    coordinator = fingerprint_bytes(coordinator_key)
    members = tuple(
        Member(
            name=name,
            identity_key=identity.public_key,
            sealing_key=sealing_key,
            domain_index=domain_index,
            entry_signature=sign_entry(identity, authority, coordinator, name, sealing_key),
        )
        for name, identity, sealing_key, domain_index in entries
    )
    return Roster(authority_fingerprint=authority, coordinator_key=coordinator_key, members=members)


def changed(roster: Roster, name: str, /, **fields: object) -> Roster:
    """Return a roster in which one member's entry has other fields, as a coordinator could make it."""
    members = tuple(
        member.model_copy(update=fields) if member.name == name else member for member in roster.members
    )
    return Roster(
        authority_fingerprint=roster.authority_fingerprint,
        coordinator_key=roster.coordinator_key,
        members=members,
    )


def former_encoding(roster: Roster) -> bytes:
    """Return what a roster was before members signed their entries, as it travelled."""
    members = [
        {name: value for name, value in dict(member).items() if name != "entry_signature"}
        for member in roster.members
    ]
    return encode({"coordinator_key": roster.coordinator_key, "members": members})


def former_json(roster: Roster) -> str:
    """Return what ``roster.json`` held then."""
    fields = json.loads(roster_to_json(roster))
    del fields["authority_fingerprint"]
    for member in fields["members"]:
        del member["entry_signature"]
    fields["roster_hash"] = digest("roster", former_encoding(roster)).hex()
    return json.dumps(fields, indent=2) + "\n"
