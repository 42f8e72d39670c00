"""What institutions sign about a session besides its rounds' messages: one function to sign, one to check."""

from collections.abc import Iterable

from fedapt_crypto.errors import TooFewParticipants
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.kdf import Part
from fedapt_secure.protocol.messages import Confirmation
from fedapt_secure.protocol.session import SessionConfiguration

_CONFIRMED = "group confirmed"


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


def _confirmed(configuration: SessionConfiguration, commitment: bytes) -> tuple[Part, ...]:
    return (configuration.session, configuration.hash, commitment)
