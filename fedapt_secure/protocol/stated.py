"""What institutions state under their signature, as it travels; `statements` signs and checks it."""

from typing import Annotated

from pydantic import Field

from fedapt_crypto.encoding import Hash, Message, PartyName, Signature
from fedapt_crypto.secagg.scheme import MAX_ROUND, SESSION_BYTES
from fedapt_crypto.secagg.tags import TAG_BYTES

Round = Annotated[int, Field(ge=1, le=MAX_ROUND)]
Session = Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]


class Confirmation(Message):
    """A party's signature: in `RoundStart` on holding the group secret, in `CatchUp` on its statement."""

    party: PartyName
    signature: Signature


class SumStatement(Message):
    """What an institution signs once for each round: the sum that it has verified, the model around it.

    Attributes:
        session, configuration_hash: The session.
        round, attempt: The execution. transcript: What its survivors have signed.
        sum_hash: Hash of the sum as it was sent. sum_tag: Its tag; empty where nothing is protected.
        model_before, model_after: What stands for the model before the round and after it.
    """

    session: Session
    configuration_hash: Hash
    round: Round
    attempt: Round
    transcript: Hash
    sum_hash: Hash
    sum_tag: Annotated[bytes, Field(max_length=TAG_BYTES)]
    model_before: Hash
    model_after: Hash
