"""One institution's view of the graph: who takes part, who its neighbours are, who holds whose shares.

Built from what the coordinator claims, and checked against our own roster, context and draws. Parties are
roster indices here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from fedapt_crypto.errors import ContextMismatch, MalformedMessage, TooFewParticipants, VerificationFailed
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import check_public_key
from fedapt_crypto.secagg.masking import graph, keys, parties
from fedapt_crypto.secagg.masking.messages import Advertise, AdvertiseList
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_crypto.secagg.signed import Abort, check_signatures
from fedapt_crypto.sharing import shared

DIGEST_BYTES = 32


@dataclass(frozen=True)
class Neighbourhood:
    """What phase 0 settles for one institution.

    Attributes:
        own: Our roster index.
        execution: The execution identifier.
        participants: Everyone who advertised, ascending.
        advertises: Advertisement of each neighbour that takes part, without ours.
        drawn: For each of those and ourselves, the neighbours it drew among the participants.
    """

    own: int
    execution: bytes
    participants: tuple[int, ...]
    advertises: Mapping[int, Advertise]
    drawn: Mapping[int, frozenset[int]]

    @property
    def holders(self) -> frozenset[int]:
        """Who gets shares of our secrets: those we drew, and ourselves."""
        return self.drawn[self.own] | {self.own}

    @property
    def held(self) -> tuple[int, ...]:
        """Whose shares we hold: those who drew us, and our own."""
        return tuple(sorted([self.own, *(j for j in self.advertises if self.own in self.drawn[j])]))

    def holders_of(self, other: int) -> frozenset[int]:
        """Who holds shares of one whose shares we hold."""
        return self.drawn[other] | {other}


def check_keys(advertise: Advertise) -> None:
    """Refuse keys that no honest party has, before anything is sealed to them; names their sender.

    Raises:
        VerificationFailed: If one of the two is not canonical, of small order, or no key.
    """
    for key in (advertise.seal_key, advertise.mask_key):
        check_public_key(key, owner=advertise.sender)


def draws_of(advertise: Advertise, context: RoundContext, own: int) -> frozenset[int]:
    """Return the neighbours in an advertisement.

    Raises:
        MalformedMessage: If they are not as many other roster members as the context says.
    """
    try:
        drawn = parties.unpack(advertise.neighbours, context.participants)
    except MalformedMessage as error:
        raise MalformedMessage(str(error), peer=advertise.sender) from None
    if len(drawn) != context.drawn_neighbours or own in drawn:
        raise MalformedMessage("drew another number of neighbours, or itself", peer=advertise.sender)
    return frozenset(drawn)


def check_context(advertise: Advertise | Abort, context: RoundContext) -> None:
    """Check the context of what is sent; raises `ContextMismatch` naming its sender."""
    if advertise.context != context.hash:
        raise ContextMismatch(
            "takes part in another round, model, configuration or roster", peer=advertise.sender
        )


def split_digests(digests: bytes, indices: tuple[int, ...]) -> dict[int, bytes]:
    """Return party to digest; raises `MalformedMessage` if there is not one for each."""
    if len(digests) != DIGEST_BYTES * len(indices):
        raise MalformedMessage("there is not one digest for each party")
    return {
        index: digests[DIGEST_BYTES * position : DIGEST_BYTES * (position + 1)]
        for position, index in enumerate(indices)
    }


def check_members(indices: tuple[int, ...], own: int, needed: int, what: str) -> None:
    """Check that we are in a party list and that it is long enough.

    Args:
        indices: The parties, as places on the roster.
        own: Our place.
        needed: How many there must be.
        what: What the list is called in errors.

    Raises:
        ContextMismatch: If it leaves us out.
        TooFewParticipants: If it is too short.
    """
    if own not in indices:
        raise ContextMismatch(f"the {what} leaves us out")
    if len(indices) < needed:
        raise TooFewParticipants(f"the {what} has {len(indices)} parties where at least {needed} must be")


def _kept(advertise: Advertise) -> Advertise:
    """Return an advertisement to keep: in a simulation everybody around its sender keeps the same object."""
    return shared("advertisement", advertise.to_bytes(), lambda: advertise, small=True)


def _draws_among(
    advertise: Advertise, context: RoundContext, index: int, participants: bytes, taking_part: frozenset[int]
) -> frozenset[int]:
    """Return the neighbours in an advertisement that take part; raises as `draws_of` does.

    ``taking_part`` is what ``participants`` says, for whoever has to work it out.
    """
    kind = ("draws", context.hash, index, participants)
    work = partial(_draws_in, advertise, context, index, taking_part)
    return shared(kind, advertise.to_bytes(), work, small=True)


def _draws_in(
    advertise: Advertise, context: RoundContext, index: int, taking_part: frozenset[int]
) -> frozenset[int]:
    check_keys(advertise)
    return draws_of(advertise, context, index) & taking_part


def settle(message: AdvertiseList, own: Advertise, context: RoundContext, roster: Roster) -> Neighbourhood:
    """Check an advertise list and return what follows from it.

    Args:
        message: What the coordinator sent.
        own: What we advertised.
        context: The round.
        roster: Its roster.

    Raises:
        PeerError: If anything in it does not hold.
    """
    own_index = roster.index(own.sender)
    participants = parties.unpack(message.participants, len(roster.members))
    check_members(participants, own_index, context.threshold, "advertise list")
    digests = split_digests(message.digests, participants)
    if digests[own_index] != own.digest or own not in message.advertises:
        raise ContextMismatch("the advertise list changes or omits our own keys")
    taking_part = frozenset(participants)
    drawn = {own_index: draws_of(own, context, own_index) & taking_part}
    listed: dict[int, Advertise] = {}
    last, known = -1, frozenset(roster.names)
    for advertise in message.advertises:
        index = roster.index(advertise.sender) if advertise.sender in known else -1
        if index <= last or index not in taking_part:
            raise MalformedMessage("the advertise list names strangers, repeats a party or is out of order")
        listed[index], last = advertise, index
    advertises = {index: advertise for index, advertise in listed.items() if index != own_index}
    check_signatures(tuple(advertises.values()), roster)
    for index, advertise in advertises.items():
        check_context(advertise, context)
        if hashlib.sha256(advertise.to_bytes()).digest() != digests[index]:
            raise VerificationFailed("advertised other keys than the list says", peer=advertise.sender)
        advertises[index] = _kept(advertise)
        drawn[index] = _draws_among(advertise, context, index, message.participants, taking_part)
        if index not in drawn[own_index] and own_index not in drawn[index]:
            raise MalformedMessage("the advertise list holds one who is no neighbour of ours")
    if not drawn[own_index] <= advertises.keys():
        raise MalformedMessage("the advertise list keeps neighbours from us that take part")
    incoming = sum(own_index in drawn[index] for index in advertises)
    if incoming > graph.most_incoming(context.participants, context.drawn_neighbours):
        raise TooFewParticipants("more institutions drew us than chance allows; not taking part")
    execution = keys.execution_id(context.hash, message.participants, message.digests)
    return Neighbourhood(own_index, execution, participants, advertises, drawn)
