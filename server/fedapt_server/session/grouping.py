"""How a session comes to its group secret at the coordinator, who does not know it; without I/O.

The first of the roster that is there is asked for it. Who does not answer in time, goes, or sends what does
not hold is not waited for: the next one is asked, and the first offer that holds is the session's for good.
Every institution gets its part of it, whenever it comes, also after a restart of either side.
"""

from collections.abc import Collection, Mapping

from fedapt_crypto.errors import PeerError, UnexpectedMessage
from fedapt_crypto.secagg import groups
from fedapt_crypto.secagg.scheme import CoordinatorGroup
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.stated import Confirmation
from fedapt_secure.protocol.statements import check_confirmation
from fedapt_server.session import deadlines
from fedapt_server.session.actions import Action, SendTo, SetTimer
from fedapt_server.session.progress import GroupOffered


class Grouping:
    """The group secret of one session, as far as the coordinator knows it.

    Args:
        configuration: The session.
    """

    def __init__(self, configuration: SessionConfiguration) -> None:
        self._configuration = configuration
        self._asked: str | None = None
        self._asked_before: set[str] = set()
        self._parts: Mapping[str, bytes] = {}
        self._confirmations: dict[str, Confirmation] = {}
        self.held: CoordinatorGroup | None = None

    @property
    def commitment(self) -> bytes | None:
        """What stands for the group secret; ``None`` before there is one."""
        return None if self.held is None else self.held.commitment

    @property
    def is_awaited(self) -> bool:
        """Whether somebody was asked and has not answered."""
        return self.held is None and self._asked is not None

    def ask(self, there: Collection[str]) -> list[Action]:
        """Ask the first that is there, unless one was asked or there is an offer.

        Args:
            there: Who has accepted, in roster order.
        """
        if self.held is not None or not there or self._asked in there:
            return []
        self._asked = next((name for name in there if name not in self._asked_before), None)
        if self._asked is None:  # all were asked: perhaps the first is merely slow
            self._asked_before.clear()
            self._asked = next(iter(there))
        request = SendTo(self._asked, m.GroupRequest().to_bytes())
        return [request, SetTimer(deadlines.group_s(self._configuration))]

    def give_up(self) -> None:
        """Wait no longer for who was asked."""
        if self._asked is not None:
            self._asked_before.add(self._asked)
            self._asked = None

    def receive(self, name: str, offer: m.GroupOffer) -> GroupOffered | None:
        """Take an offer; returns it where it is the session's from now on, ``None`` where there was one.

        Raises:
            UnexpectedMessage: If the sender was not asked.
            PeerError: If the offer does not hold.
        """
        if self.held is not None:
            return None
        if name != self._asked and name not in self._asked_before:
            raise UnexpectedMessage("sent a group secret that nobody has asked it for", peer=name)
        offered = GroupOffered(name, offer.payload)
        try:
            self.take(offered)
        except PeerError:
            if name == self._asked:
                self.give_up()
            raise
        return offered

    def take(self, offered: GroupOffered) -> None:
        """Go on with an offer; raises `PeerError` if it does not hold."""
        configuration = self._configuration
        self.held, self._parts = groups.route_offer(
            configuration.plan.secure_aggregation,
            offered.payload,
            configuration.session,
            configuration.hash,
            configuration.roster,
            offered.maker,
            decryptions=configuration.decryptions,
        )

    def part_for(self, name: str) -> bytes:
        """Return one institution's part; raises `KeyError` before there is one."""
        return self._parts[name]

    def parts_for(self, *names: str) -> list[SendTo]:
        """Return what gives institutions their parts, once there are any."""
        there = names if self.held is not None else ()
        return [SendTo(name, m.GroupPart(payload=self._parts[name]).to_bytes()) for name in there]

    def confirm(self, name: str, message: m.GroupReady) -> None:
        """Take an institution's confirmation that it holds the group secret.

        Raises:
            UnexpectedMessage: If there is none to confirm.
            VerificationFailed: If its signature does not hold.
        """
        if self.held is None:
            raise UnexpectedMessage("confirmed a group secret before there was one", peer=name)
        check_confirmation(self._configuration, self.held.commitment, name, message.signature)
        self._confirmations[name] = Confirmation(party=name, signature=message.signature)

    def confirmations(self) -> tuple[Confirmation, ...]:
        """Return what a round begins with, in a scheme that encrypts before anybody has signed."""
        return tuple(self._confirmations.values()) if self._configuration.blind else ()

    def close(self) -> None:
        """The session is over."""
        if self.held is not None:
            self.held.close()
