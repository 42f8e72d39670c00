"""A session that has ended, as one page in the institution's folder: for its people, on screen and paper."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fedapt_client.offer_words import offer_rows
from fedapt_client.page.offer_file import read_offer
from fedapt_client.page.recognised import recognised
from fedapt_client.page.rounds import FollowedLog, SessionSeen, verified
from fedapt_client.page.site import SITE
from fedapt_client.page.state import page_state, session_fields
from fedapt_client.settings import ClientSettings
from fedapt_client.training.kept_models import KeptModels
from fedapt_crypto.private_files import make_private_folder, write_atomically
from fedapt_secure import __version__
from fedapt_secure.audit.evidence.participation import Participation, RoundTaken, of_rounds
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.pages.environment import page_environment, strips_of


def write_session_report(folder: PartyFolder, settings: ClientSettings, session: str) -> Path:
    """Write ``models/SESSION.html``; return where. It holds accuracies, and is as private as the folder.

    Args:
        folder: The party's folder.
        settings: Its settings.
        session: Which session, hexadecimal; its end is in the log.

    Raises:
        InvalidInput: If a file is damaged, or cannot be read or written.
    """
    path = folder.path / settings.log
    log = FollowedLog(path)
    state = page_state(folder, settings, log)
    offer = read_offer(folder.path)
    known = offer is not None and offer["fields"]["session"] == session
    offered = offer_rows(offer["fields"]) if offer is not None and known else []
    model = KeptModels(folder.path).path(session)
    own = {member.name: member for member in folder.roster().members}[settings.name]
    environment = page_environment(Path(__file__).parent)
    environment.globals.update(SITE.functions)
    now = datetime.now(UTC)
    grid = _grid(log.sessions[session], folder.roster().names)
    text = environment.get_template("session_report.html.j2").render(
        state=state,
        session=session_fields(log.sessions[session], running=False),
        verified=verified(path, own.identity_key, now),
        grid=grid,
        strips=strips_of(grid.columns),
        offer=[row for row in offered if row[0] != "session"],
        scores=recognised(folder.path, session),
        model=model if model.exists() else None,
        made=f"{now:%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )
    make_private_folder(model.parent)
    target = model.with_suffix(".html")
    write_atomically(target, text.encode())
    return target


def _grid(found: SessionSeen, institutions: Sequence[str]) -> Participation:
    """Return who is in which sum; who else had begun a round, an institution does not know."""
    rounds = [
        RoundTaken(
            one.number, frozenset(one.contributors), frozenset(one.contributors), one.status == "completed"
        )
        for one in sorted(found.rounds.values(), key=lambda one: one.number)
    ]
    return of_rounds(institutions, rounds, found.session)
