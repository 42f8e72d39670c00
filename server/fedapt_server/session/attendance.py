"""Who of the roster is there, who is waited for, and who is out for now; without I/O."""

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
        self.reasons: dict[str, str] = {}
        """Why those who are out are out, see `fedapt_secure.protocol.reasons`."""

    def of(self, name: str) -> Presence:
        """Return what an institution is doing."""
        return self._presence[name]

    def mark(self, name: str, presence: Presence) -> None:
        """Note what an institution is doing now."""
        self._presence[name] = presence
        if presence is Presence.READY:
            self._given_up_on.discard(name)
            self.reasons.pop(name, None)

    def out(self, name: str, reason: str) -> None:
        """Note that an institution does not take part for now: nobody waits until it is ready again."""
        self._presence[name] = Presence.OUT
        self._given_up_on.add(name)
        self.reasons[name] = reason

    def which(self, *presences: Presence) -> tuple[str, ...]:
        """Return who is doing one of these things, in roster order."""
        return tuple(name for name, presence in self._presence.items() if presence in presences)

    @property
    def takes_sums(self) -> tuple[str, ...]:
        """Who is given sums that only institutions can open, also of rounds that it took no part in."""
        return self.which(Presence.JOINING, Presence.READY, Presence.RESTING)

    @property
    def connected(self) -> tuple[str, ...]:
        """Who has a connection, also of those who take no part any more."""
        return tuple(name for name, presence in self._presence.items() if presence is not Presence.ABSENT)

    @property
    def remaining(self) -> tuple[str, ...]:
        """Who may be in the next round, as things stand."""
        gone = (Presence.OUT, Presence.RESTING)
        return tuple(name for name, presence in self._presence.items() if presence not in gone)

    @property
    def may_come(self) -> tuple[str, ...]:
        """Who may be in a round that is still to come: also those who are out, if they come back."""
        return tuple(name for name, presence in self._presence.items() if presence is not Presence.RESTING)

    @property
    def to_sign(self) -> tuple[str, ...]:
        """Whose signature the end of the session waits for."""
        return tuple(name for name, presence in self._presence.items() if presence is not Presence.OUT)

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
