"""Found the federation of a simulated run and enrol everybody, by the steps of the real commands."""

from datetime import timedelta
from typing import Final

from fedapt_client.membership import enrolment, rosters
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.dealing import DealtDataset, DealtInstitution
from fedapt_secure.simulate.setup.run_folder import RunFolder
from fedapt_server.membership.founding import found
from fedapt_server.membership.registrar import Registrar
from fedapt_server.settings import ServerSettings

INVITED_FOR: Final = timedelta(hours=1)


def enrol_all(folder: RunFolder, dataset: DealtDataset, host: str) -> Roster:
    """Found the federation, enrol everybody and let each approve the roster, as separate parties do.

    The steps are those of the real commands; only the connection between them is missing.

    Args:
        folder: Where they keep what.
        dataset: Who has which images.
        host: The coordinator's address.
    """
    coordinator = PartyFolder(folder.party(COORDINATOR))
    addresses = ("localhost", host)
    founding = ServerSettings(federation="simulation", name=COORDINATOR, addresses=addresses, port=0)
    registrar = found(coordinator, founding)
    for domain in dataset.domains:
        registrar.membership.add_domain(domain)
    with registrar.many():
        parties = [_enrol(folder, dataset, registrar, one, host) for one in dataset.institutions]
    roster_file = registrar.roster_file()
    assert roster_file is not None  # there are institutions
    for party in parties:
        rosters.approve(party, roster_file)
    return roster_file.content


def _enrol(
    folder: RunFolder, dataset: DealtDataset, registrar: Registrar, institution: DealtInstitution, host: str
) -> PartyFolder:
    party = PartyFolder(folder.party(institution.name))
    domain = dataset.domains[institution.domain_index]
    join, _ = registrar.invite(institution.name, domain, INVITED_FOR)
    request = enrolment.begin(party, join)
    assert request is not None  # the folder is new
    answer = registrar.enrol(*registrar.admit(join.token, request.to_bytes()))
    enrolment.finish(party, join, request, answer, enrolment.Options(host=host, data=institution.data))
    return party
