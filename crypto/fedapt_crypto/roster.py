"""The roster: who takes part in a session, and the keys by which each is known.

Every institution holds its own approved copy and checks signatures against that, never against what
the coordinator says today.
"""

from functools import cached_property
from typing import Annotated

from pydantic import Field, model_validator

from fedapt_crypto import seal
from fedapt_crypto.encoding import Message, PartyName
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import PUBLIC_KEY_BYTES
from fedapt_crypto.kdf import digest

COORDINATOR = "coordinator"
"""The coordinator's name in logs and signatures; no institution may have it."""

IdentityKey = Annotated[bytes, Field(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
SealingPublicKey = Annotated[bytes, Field(min_length=seal.PUBLIC_KEY_BYTES, max_length=seal.PUBLIC_KEY_BYTES)]


class Member(Message):
    """One institution: its name, identity key (Ed25519), key for sealed messages, and domain index."""

    name: PartyName
    identity_key: IdentityKey
    sealing_key: SealingPublicKey
    domain_index: Annotated[int, Field(ge=0, lt=4096)]


class Roster(Message):
    """The coordinator's identity and the institutions in their fixed order."""

    same_for_all = True

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

    def identity_key(self, party: str) -> bytes:
        """Return a member's or the coordinator's identity key; raises `InvalidInput` for other names."""
        return self.coordinator_key if party == COORDINATOR else self.member(party).identity_key


def threshold(institutions: int) -> int:
    """Return t = floor(2n/3) + 1: how many must agree before anything is revealed (bounds: SECURITY.md)."""
    return 2 * institutions // 3 + 1
