"""What a group key has been used for; kept by the institution where a restart does not lose it.

A key that has forgotten what it did could be made to do it again: decrypt a second sum of one execution, or
work on after a check has failed. So the key asks its journal first, and a journal that lasts makes its
records durable before it returns.
"""

from typing import Protocol

from fedapt_crypto.errors import InvalidInput, VerificationFailed

DISCARDED = "the group key was discarded: start a new session"


class Journal(Protocol):
    """The record of one session's group key."""

    @property
    def discarded(self) -> bool:
        """Whether the key is burned."""

    def decrypted_pieces(self, apart_from: bytes) -> int:
        """Return how many pieces were decrypted in other executions than this one."""

    def discard(self) -> None:
        """Record that the key is burned."""

    def encrypting(self, execution: bytes) -> None:
        """Record that an update is about to be encrypted.

        Raises:
            InvalidInput: If one was before in this execution.
        """

    def decrypting(self, execution: bytes, sum_hash: bytes, pieces: int) -> None:
        """Record that a sum is about to be decrypted.

        The same sum may be opened again after a restart: its noise is the same, so it says nothing new.

        Raises:
            VerificationFailed: If another sum was before in this execution.
        """


class MemoryJournal:
    """A journal that lasts as long as the process; the base of one that lasts longer."""

    def __init__(self) -> None:
        self._discarded = False
        self._encrypted: set[bytes] = set()
        self._sums: dict[bytes, tuple[bytes, int]] = {}

    @property
    def discarded(self) -> bool:
        """Whether the key is burned."""
        return self._discarded

    def decrypted_pieces(self, apart_from: bytes) -> int:
        """See `Journal.decrypted_pieces`."""
        return sum(pieces for execution, (_, pieces) in self._sums.items() if execution != apart_from)

    def discard(self) -> None:
        """Record that the key is burned."""
        self._discarded = True
        self._save()

    def encrypting(self, execution: bytes) -> None:
        """See `Journal.encrypting`."""
        if execution in self._encrypted:
            raise InvalidInput("the group key has served this round already")
        self._encrypted.add(execution)
        self._save()

    def decrypting(self, execution: bytes, sum_hash: bytes, pieces: int) -> None:
        """See `Journal.decrypting`."""
        entry = (sum_hash, pieces)
        if self._sums.setdefault(execution, entry) != entry:
            raise VerificationFailed("a second, different sum for one round", peer="coordinator")
        self._save()

    def _save(self) -> None:
        """Make the records last; nothing to do here."""
