"""Rosters whose entries their members have signed, as enrolment makes them."""

from collections.abc import Iterable

from fedapt_crypto.identity import Identity, fingerprint_bytes
from fedapt_crypto.roster import Member, Roster, sign_entry

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
