"""The roster an institution approves: what changed against the approved one, and when it may not be.

A roster counts only with the signature of the pinned coordinator, and only once people here have approved
it. It never goes back to an earlier revision, and there are not two of one revision.
"""

from dataclasses import dataclass
from typing import Final

from fedapt_client.membership.enrolment import load_federation
from fedapt_crypto.certificates import read_revocation_list
from fedapt_crypto.encoding import Message, PartyName
from fedapt_crypto.errors import ContextMismatch, InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import fingerprint, grouped
from fedapt_crypto.private_files import read_private, write_atomically
from fedapt_crypto.roster import IdentityKey, Member, Roster, SealingPublicKey
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining.enrolment import RosterFile, from_file, to_file

APPROVED_FILE: Final = "roster.approved"
"""The signed revision that was approved last, as text."""


@dataclass(frozen=True)
class Change:
    """One difference between the approved roster and the current one, in words."""

    name: str
    what: str


def check(folder: PartyFolder, offered: RosterFile) -> Roster:
    """Check an offered roster: signature, revision, and that this institution is on it as itself.

    Raises:
        VerificationFailed: If it is not signed by the pinned coordinator, or has us with other keys.
        ContextMismatch: If it is older than the approved one, or another one of the same revision.
        InvalidInput: If this institution is not on it.
    """
    federation = load_federation(folder)
    roster = offered.check(bytes.fromhex(federation.coordinator_key))
    if roster.authority_fingerprint.hex() != federation.authority_fingerprint:
        raise VerificationFailed("the roster is one of another authority than the one that is pinned here")
    before = approved(folder)
    if before is not None and offered.revision < before.revision:
        raise ContextMismatch(
            f"the coordinator shows roster revision {offered.revision}, and {before.revision} was approved"
            " here: it went back, which it must not"
        )
    if before is not None and offered.revision == before.revision and offered != before:
        raise ContextMismatch(
            f"the coordinator signed two different rosters as revision {offered.revision}: do not go on, and"
            " tell the other institutions"
        )
    if federation.name not in roster.names:
        raise InvalidInput(
            f"{federation.name!r} is not on this roster: run 'fedapt-secure client renew' if it enrolled"
            " before members signed their entries, else ask the coordinator's operator"
        )
    own = roster.member(federation.name)
    keys = (folder.identity().public_key, folder.sealing_key().public_key)
    if (own.identity_key, own.sealing_key) != keys:
        raise VerificationFailed(
            "the roster has this institution with keys that are not its own: do not go on"
        )
    return roster


def approve(folder: PartyFolder, offered: RosterFile) -> Roster:
    """Check a roster and make it the approved one; raises as `check` does.

    Written in an order that survives a crash: the revision first, then the roster that is used. In between
    the old roster is used, and approving again finishes it.
    """
    roster = check(folder, offered)
    write_atomically(folder.path / APPROVED_FILE, to_file(offered))
    folder.approve_roster(roster)
    return roster


def approved(folder: PartyFolder) -> RosterFile | None:
    """Return the revision that was approved last; raises `InvalidInput` where it is broken."""
    path = folder.path / APPROVED_FILE
    return from_file(read_private(path), RosterFile, str(path)) if path.exists() else None


def is_approved(folder: PartyFolder, offered: RosterFile) -> bool:
    """Whether exactly this roster is the one in use here; one that cannot be used is not."""
    try:
        return folder.roster_file.exists() and folder.roster().hash == offered.content.hash
    except InvalidInput:  # approving another one is what mends it
        return False


def changes(before: RosterFile | None, after: RosterFile) -> tuple[Change, ...]:
    """Return what is different, member by member; everything is new where nothing was approved."""
    old = _members(before) if before is not None else {}
    new = _members(after)
    found = [Change(name, "left") for name in old if name not in new]
    for name, (member, domain) in new.items():
        if name not in old:
            found.append(Change(name, "is new"))
            continue
        former, former_domain = old[name]
        if member.identity_key != former.identity_key:
            found.append(Change(name, f"has another identity key (was {fingerprint(former.identity_key)})"))
        if member.sealing_key != former.sealing_key:
            found.append(Change(name, "has another sealing key"))
        if isinstance(former, _FormerMember):
            found.append(Change(name, "has signed its entry"))
        if domain != former_domain:
            found.append(Change(name, f"moved from domain {former_domain!r} to {domain!r}"))
    return tuple(found)


def roster_fingerprint(roster: Roster) -> str:
    """Return a roster's hash in groups of four, to compare by telephone."""
    return grouped(roster.hash)


def store_revocations(folder: PartyFolder, revocation_list: bytes) -> None:
    """Keep the authority's newest list of revoked certificates.

    Raises:
        PeerError: If it is not the authority's, or older than the one that is kept.
    """
    authority, path = read_private(folder.authority_file), folder.revocation_file
    offered = read_revocation_list(revocation_list, authority)
    if path.exists() and offered.number < read_revocation_list(read_private(path), authority).number:
        raise ContextMismatch("the coordinator shows an older list of revoked certificates than before")
    write_atomically(path, revocation_list)


class _FormerMember(Message):
    """A member on a roster from before members signed their entries."""

    name: PartyName
    identity_key: IdentityKey
    sealing_key: SealingPublicKey
    domain_index: int


class _FormerRoster(Message):
    """A roster from before members signed their entries: only to say what a new one changes in it."""

    coordinator_key: IdentityKey
    members: tuple[_FormerMember, ...]


def _members(file: RosterFile) -> dict[str, tuple[Member | _FormerMember, str]]:
    try:
        members: tuple[Member | _FormerMember, ...] = file.content.members
    except MalformedMessage:
        members = _FormerRoster.from_bytes(file.roster, max_bytes=len(file.roster)).members
    return {member.name: (member, file.domains[member.domain_index]) for member in members}
