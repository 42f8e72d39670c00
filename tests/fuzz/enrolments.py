"""What travels while an institution enrols, renews and asks for the roster: seeds for the decoders."""

import tempfile
from datetime import timedelta
from pathlib import Path

from fedapt_client.membership import enrolment
from fedapt_crypto.encoding import TaggedMessage
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_server.membership.enrolment_desk import EnrolmentDesk
from fedapt_server.membership.founding import found
from fedapt_server.settings import ServerSettings

NAME = "clinic-1"


def enrolment_messages() -> list[bytes]:
    """Return both sides' messages of real conversations, what travels in files, and a join string."""
    with tempfile.TemporaryDirectory() as folder:
        return [message.to_bytes() for message in _converse(Path(folder))]


def _converse(folder: Path) -> list[TaggedMessage]:
    registrar = found(PartyFolder(folder / "coordinator"), ServerSettings(addresses=("localhost",)))
    registrar.membership.add_domain("scanner-a")
    party = PartyFolder(folder / NAME)
    join, _ = registrar.invite(NAME, "scanner-a", timedelta(hours=1))
    request = enrolment.begin(party, join)
    assert request is not None
    desk = EnrolmentDesk(registrar, None)
    said: list[TaggedMessage] = [
        desk.welcome(),
        request,
        e.Enrol(token=join.token, request=request.to_bytes()),
    ]
    challenge = desk.receive(said[-1].to_bytes()).message
    assert isinstance(challenge, e.Challenge)
    opened = party.sealing_key().open(challenge.sealed, *e.challenge_info(e.request_hash(request)))
    proof = e.Proof(opened=opened)
    certified = desk.receive(proof.to_bytes()).message
    assert isinstance(certified, e.Certified)
    enrolment.finish(party, join, request, certified, enrolment.Options(host="localhost", data=Path("data")))
    said += [challenge, proof, certified]
    welcome = (desk := EnrolmentDesk(registrar, NAME)).welcome()
    renewal = enrolment.begin_renewal(party, enrolment.load_federation(party), welcome.nonce)
    renew = e.Renew(renewal=renewal.to_bytes())
    said += [renewal, renew, desk.receive(renew.to_bytes()).message]
    sent = EnrolmentDesk(registrar, NAME).receive(e.RosterWanted().to_bytes()).message
    refused = EnrolmentDesk(registrar, None).receive(e.RosterWanted().to_bytes()).message
    roster = registrar.roster_file()
    assert roster is not None
    return [*said, e.RosterWanted(), sent, refused, roster]
