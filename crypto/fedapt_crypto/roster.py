"""The roster: who takes part in a session, and the keys by which each is known.

Every institution holds its own approved copy and checks signatures against that, never against what
the coordinator says today.
"""

from collections.abc import Collection
from functools import cached_property
from typing import Annotated

from pydantic import Field, model_validator

from fedapt_crypto import seal
from fedapt_crypto.encoding import Hash, Message, PartyName, Signature
from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.identity import (
    PUBLIC_KEY_BYTES,
    Identity,
    check_public_key,
    fingerprint_bytes,
    verify,
)
from fedapt_crypto.kdf import digest
from fedapt_crypto.sharing import shared

COORDINATOR = "coordinator"
"""The coordinator's name in logs and signatures; no institution may have it."""

_ENTRY = "roster entry"

IdentityKey = Annotated[bytes, Field(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
SealingPublicKey = Annotated[bytes, Field(min_length=seal.PUBLIC_KEY_BYTES, max_length=seal.PUBLIC_KEY_BYTES)]


def sign_entry(
    identity: Identity, authority: bytes, coordinator: bytes, name: str, sealing_key: bytes
) -> bytes:
    """Return a member's signature on its own entry: nobody can put another sealing key into its place.

    Args:
        identity: The member's signing key.
        authority: SHA-256 of the authority's certificate.
        coordinator: SHA-256 of the coordinator's identity key.
        name: The member's name.
        sealing_key: Its public key for sealed messages.
    """
    return identity.sign(_ENTRY, authority, coordinator, name, identity.public_key, sealing_key)


class Member(Message):
    """One institution: its name, identity key (Ed25519), key for sealed messages, and domain index.

    ``entry_signature`` is its own on all but the domain, see `sign_entry`.
    """

    name: PartyName
    identity_key: IdentityKey
    sealing_key: SealingPublicKey
    domain_index: Annotated[int, Field(ge=0, lt=4096)]
    entry_signature: Signature

    def check(self, authority: bytes, coordinator: bytes) -> None:
        """Check that this entry is its owner's; raises `VerificationFailed` where it is not."""
        check_public_key(self.identity_key, owner=self.name)
        seal.check_public_key(self.sealing_key, owner=self.name)
        parts = (authority, coordinator, self.name, self.identity_key, self.sealing_key)
        try:
            verify(self.identity_key, self.entry_signature, _ENTRY, *parts, signer=self.name)
        except VerificationFailed:
            raise VerificationFailed(
                "its roster entry is not signed by itself: the keys in it may be somebody else's",
                peer=self.name,
            ) from None


class Roster(Message):
    """The coordinator's identity and the institutions in their fixed order.

    ``authority_fingerprint`` is the SHA-256 of the certificate of the federation's authority.
    """

    same_for_all = True

    authority_fingerprint: Hash
    coordinator_key: IdentityKey
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=4096)]

    @model_validator(mode="after")
    def _unique(self) -> "Roster":
        names = [member.name for member in self.members]
        keys = {member.identity_key for member in self.members} | {self.coordinator_key}
        if len(set(names)) != len(names) or len(keys) != len(names) + 1:
            raise ValueError("names and identity keys in a roster must be distinct")
        if COORDINATOR in names:
            raise ValueError(f"no institution may be called {COORDINATOR!r}")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in roster order."""
        return tuple(member.name for member in self.members)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the whole roster."""
        return digest("roster", self.to_bytes())

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def check_entries(self) -> None:
        """Check every member's own signature on its entry, and all keys.

        Raises:
            VerificationFailed: If an entry is not its owner's, or a key is none that an honest party has.
        """
        shared("roster entries", self.to_bytes(), self._check_entries)

    def _check_entries(self) -> None:
        check_public_key(self.coordinator_key, owner=COORDINATOR)
        coordinator = fingerprint_bytes(self.coordinator_key)
        for member in self.members:
            member.check(self.authority_fingerprint, coordinator)

    def index(self, name: str) -> int:
        """Return the position of a member, from 0.

        Raises:
            InvalidInput: If nobody of that name is on the roster.
        """
        try:
            return self._positions[name]
        except KeyError:
            raise InvalidInput(f"{name!r} is not on the roster ({', '.join(self.names)})") from None

    def member(self, name: str) -> Member:
        """Return the member of that name; raises `InvalidInput` where there is none."""
        return self.members[self.index(name)]

    def only(self, names: Collection[str]) -> "Roster":
        """Return the roster of some of its members, in the same order."""
        members = tuple(member for member in self.members if member.name in names)
        return Roster(
            authority_fingerprint=self.authority_fingerprint,
            coordinator_key=self.coordinator_key,
            members=members,
        )

    def join(self, name: str) -> None:
        """Check that a member may rely on this roster: it is on it, and all entries are their owners'.

        Raises:
            InvalidInput: If it is not on it.
            VerificationFailed: As `check_entries` does.
        """
        self.member(name)
        self.check_entries()

    def identity_key(self, party: str) -> bytes:
        """Return a member's or the coordinator's identity key; raises `InvalidInput` for other names."""
        return self.coordinator_key if party == COORDINATOR else self.member(party).identity_key


def threshold(institutions: int) -> int:
    """Return t = floor(2n/3) + 1: how many must agree before anything is revealed (bounds: SECURITY.md)."""
    return 2 * institutions // 3 + 1
