"""Makes and opens a session's group secret with the institution's keys, and puts it on record."""

from fedapt_client.books.group_journal import GroupJournal
from fedapt_client.institution import Institution
from fedapt_client.session.actions import MakeGroup, OpenGroup
from fedapt_crypto.errors import ContextMismatch, FedaptError
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import groups
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.protocol.session import SessionConfiguration


def make_group(institution: Institution, action: MakeGroup) -> bytes:
    """Make the session's group secret and return the offer of it.

    Args:
        institution: Whose keys to use.
        action: For which session.

    Raises:
        ContextMismatch: If the session has a group secret here already.
        InvalidInput: If keys or numbers cannot be used.
        RunFailed: If TenSEAL fails.
    """
    configuration = action.configuration
    if institution.books.bindings.group_of(configuration.session) is not None:
        raise ContextMismatch("asks for a second group secret of this session", peer=COORDINATOR)
    offer = groups.make_offer(
        configuration.plan.secure_aggregation,
        configuration.session,
        configuration.hash,
        configuration.roster,
        institution.settings.name,
        institution.folder.identity(),
        decryptions=configuration.decryptions,
    )
    institution.write("group_made", _session(configuration))
    return offer


def open_group(institution: Institution, action: OpenGroup) -> InstitutionGroup:
    """Open our part of the group secret, and put its commitment on record, durably.

    Args:
        institution: Whose keys to use.
        action: The part, and for which session.

    Raises:
        PeerError: If it is not a member's offer for this session, or another one than is on record.
        InvalidInput: If keys, numbers or ledger cannot be used.
    """
    configuration = action.configuration
    folder, session = institution.folder, configuration.session
    journal = GroupJournal(folder.path, session) if configuration.blind else None
    opened = groups.open_part(
        configuration.plan.secure_aggregation,
        action.payload,
        session,
        configuration.hash,
        configuration.roster,
        institution.settings.name,
        folder.sealing_key(),
        decryptions=configuration.decryptions,
        journal=journal,
    )
    try:
        institution.books.bindings.bind_group(session, opened.commitment)
    except FedaptError:  # it is not ours to use: its process ends
        opened.close()
        raise
    body = _session(configuration) | {"commitment": opened.commitment.hex()}
    institution.write("group", body)
    return opened


def _session(configuration: SessionConfiguration) -> dict[str, str]:
    return {"session": configuration.session.hex()}
