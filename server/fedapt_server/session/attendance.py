"""Who of the roster is there, who is waited for, and who has left for good; without I/O."""

from collections.abc import Collection, Iterable

from fedapt_server.session.states import Presence


class Attendance:
    """The presence of each institution in one session.

    Args:
        names: The roster, in order.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._presence = dict.fromkeys(names, Presence.ABSENT)
        self._given_up_on: set[str] = set()

    def of(self, name: str) -> Presence:
        """Return what an institution is doing."""
        return self._presence[name]

    def mark(self, name: str, presence: Presence) -> None:
        """Note what an institution is doing now."""
        self._presence[name] = presence
        if presence is Presence.READY:
            self._given_up_on.discard(name)

    def which(self, *presences: Presence) -> tuple[str, ...]:
        """Return who is doing one of these things, in roster order."""
        return tuple(name for name, presence in self._presence.items() if presence in presences)

    @property
    def connected(self) -> tuple[str, ...]:
        """Who has a connection, also of those who take no part any more."""
        return tuple(name for name, presence in self._presence.items() if presence is not Presence.ABSENT)

    @property
    def remaining(self) -> tuple[str, ...]:
        """Who has not left for good."""
        return tuple(name for name, presence in self._presence.items() if presence is not Presence.LEFT)

    def awaited(self, among: Collection[str]) -> tuple[str, ...]:
        """Return who of some institutions is to come yet and is still waited for."""
        return tuple(name for name in self._missing(among) if name not in self._given_up_on)

    def give_up_on_missing(self, among: Collection[str]) -> list[str]:
        """Wait no more for whoever of some institutions is not ready; return their names."""
        missing = self._missing(among)
        self._given_up_on |= set(missing)
        return missing

    def _missing(self, among: Collection[str]) -> list[str]:
        missing = (name for name in self.remaining if self._presence[name] is not Presence.READY)
        return [name for name in missing if name in among]
