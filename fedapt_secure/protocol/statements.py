"""What institutions sign about a session besides its rounds' messages: one function to sign, one to check."""

from collections.abc import Iterable

from fedapt_crypto.errors import ContextMismatch, TooFewParticipants
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.kdf import Part
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.protocol.messages import CatchUp, model_from_bytes
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash
from fedapt_secure.protocol.stated import Confirmation, SumStatement

_CONFIRMED = "group confirmed"
_VERIFIED = "verified sum"


def sign_confirmation(identity: Identity, configuration: SessionConfiguration, commitment: bytes) -> bytes:
    """Return an institution's signature on holding the group secret.

    Args:
        identity: Its signing key.
        configuration: The session.
        commitment: What stands for the secret.
    """
    return identity.sign(_CONFIRMED, *_confirmed(configuration, commitment))


def check_confirmation(
    configuration: SessionConfiguration, commitment: bytes, name: str, signature: bytes
) -> None:
    """Check that an institution has confirmed the group secret with this commitment.

    Args:
        configuration: The session.
        commitment: What stands for the secret.
        name: The institution.
        signature: Its signature.

    Raises:
        VerificationFailed: If it has not; names it.
        InvalidInput: If it is not on the roster.
    """
    key = configuration.roster.member(name).identity_key
    verify(key, signature, _CONFIRMED, *_confirmed(configuration, commitment), signer=name)


def confirmed_by(
    configuration: SessionConfiguration, commitment: bytes, confirmations: Iterable[Confirmation]
) -> frozenset[str]:
    """Return who has confirmed a group secret, if they are enough for a round.

    Args:
        configuration: The session.
        commitment: What stands for the secret.
        confirmations: What was sent as theirs.

    Raises:
        VerificationFailed: If a signature does not hold.
        TooFewParticipants: If they are fewer than the session's threshold.
    """
    names = set()
    for one in confirmations:
        check_confirmation(configuration, commitment, one.party, one.signature)
        names.add(one.party)
    if len(names) < configuration.threshold:
        raise TooFewParticipants(
            f"{len(names)} institutions have confirmed the group secret where {configuration.threshold} must"
        )
    return frozenset(names)


def sign_sum(identity: Identity, statement: SumStatement) -> bytes:
    """Return an institution's signature on having verified a sum; it signs one for each round."""
    return identity.sign(_VERIFIED, statement.to_bytes())


def check_sum_statement(
    configuration: SessionConfiguration, statement: SumStatement, name: str, signature: bytes
) -> None:
    """Check that an institution of a round's roster has stated its sum and model so.

    Args:
        configuration: The session.
        statement: What is stated.
        name: Who is said to have stated it.
        signature: Its signature.

    Raises:
        ContextMismatch: If it is about another session.
        VerificationFailed: If it has not; names it.
        InvalidInput: If it is not on the round's roster.
    """
    if (statement.session, statement.configuration_hash) != (configuration.session, configuration.hash):
        raise ContextMismatch("stated the sum of another session", peer=name)
    key = configuration.round_roster(statement.round).member(name).identity_key
    verify_sum(key, statement, name, signature)


def verify_sum(key: bytes, statement: SumStatement, name: str, signature: bytes) -> None:
    """Check a signature of `sign_sum` alone, as an auditor does who has no session configuration.

    Args:
        key: The institution's identity key.
        statement: What is stated.
        name: Who is said to have stated it.
        signature: Its signature.

    Raises:
        VerificationFailed: If it has not; names it.
    """
    verify(key, signature, _VERIFIED, statement.to_bytes(), signer=name)


def caught_up(configuration: SessionConfiguration, message: CatchUp) -> Vector:
    """Return the model in a message, if enough of its round's roster state it.

    Args:
        configuration: The session.
        message: What the coordinator sent.

    Raises:
        PeerError: If they do not, or it is another model than they state.
        InvalidInput: If somebody is named who is not on the round's roster.
    """
    statement = message.statement
    names = {one.party for one in message.signatures}
    needed = configuration.statements_needed
    if len(names) < needed:
        raise TooFewParticipants(f"{len(names)} institutions state the newest model where {needed} must")
    for one in message.signatures:
        check_sum_statement(configuration, statement, one.party, one.signature)
    if model_hash(message.model) != statement.model_after:
        raise ContextMismatch("the newest model is not the one that was stated", peer=COORDINATOR)
    return model_from_bytes(message.model, configuration.plan.shape)


def _confirmed(configuration: SessionConfiguration, commitment: bytes) -> tuple[Part, ...]:
    return (configuration.session, configuration.hash, commitment)
