"""A sum that did not reach an institution in its round, as the coordinator sends it again; without I/O."""

from fedapt_client.session.actions import Action
from fedapt_client.session.own_model import OwnModel
from fedapt_crypto.errors import PeerError
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.ckks.catch_up import open_missed_sum
from fedapt_crypto.secagg.ckks.group import GroupKey
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, check_sum
from fedapt_crypto.secagg.plain import PlainSum, take_sum
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.protocol import messages as m


def missed_sum(
    own: OwnModel, group: InstitutionGroup | None, roster: Roster, missed: m.MissedSum
) -> list[Action]:
    """Take a sum that came late; one that is not for our model, or that we cannot check, is let pass.

    With masking our own record of the execution must verify it: who has none takes the model from those who
    state it (`OwnModel.catch_up`). With CKKS nobody can hand out a model, so a newer execution's sum is taken
    too: a threshold of its contributors signed it, and its tag proves it.

    Args:
        own: Our model.
        group: What we hold of the session's group.
        roster: Our own approved roster.
        missed: The sum.

    Raises:
        PeerError: If it does not hold.
    """
    if missed.round <= own.kept.round:
        return []
    commitment = None if group is None else group.commitment
    about = (missed.round, missed.attempt, own.kept.model_id, commitment)
    context = own.configuration.round_context(*about)
    match group:
        case GroupKey():
            if own.has_joined_later(missed):
                return []
            signed = own.opening_of(missed)
            verified = open_missed_sum(context, roster, group, missed.payload, signed)
        case GroupSecret():
            opening = own.opening_of(missed)
            if opening is None:
                return []
            announced = SumAnnouncement.from_bytes(missed.payload)
            try:
                verified = check_sum(announced, opening, group, roster.coordinator_key)
            except PeerError:
                own.failed(opening.context)
                raise
        case _:
            round_roster = own.configuration.round_roster(missed.round)
            verified = take_sum(PlainSum.from_bytes(missed.payload), context, round_roster)
    return own.take(context, verified, missed.payload)
