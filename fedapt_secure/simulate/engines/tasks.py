"""All parties as tasks of this process: the default, because nothing has to be loaded twice."""

from collections.abc import Sequence
from pathlib import Path

from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput, PolicyRefused
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.simulate.engines.engine import LOOPBACK, Progress
from fedapt_secure.simulate.engines.patience import allow_file_handles, close_retry_s, retry_for_s
from fedapt_server.service import CoordinatorService
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from fedapt_server.settings import ServerSettings


class TaskEngine:
    """Runs all parties in this process."""

    host = LOOPBACK
    lost: frozenset[str] = frozenset()

    def make_room(self, institutions: int) -> None:
        """Raise the limit of open files; see `Engine.make_room`."""
        allow_file_handles(institutions)

    async def place(self, folders: Sequence[Path]) -> None:
        """Do nothing: everybody is here."""

    async def run_coordinator(self, folder: Path) -> None:
        """See `Engine.run_coordinator`."""
        await coordinator(folder)

    async def run_institution(self, folder: Path, institutions: int, progress: Progress | None) -> None:
        """See `Engine.run_institution`."""
        await institution(folder, institutions, progress)


async def coordinator(folder: Path) -> None:
    """Run the coordinator of a folder in this process.

    Raises:
        InvalidInput, RunFailed: If it refuses its settings, or fails.
    """
    settings = build(ServerSettings, read_yaml(folder / SERVER_FILE), source=SERVER_FILE)
    plan = build(SessionPlan, read_yaml(folder / settings.session), source=str(settings.session))
    await CoordinatorService(PartyFolder(folder), settings, plan).run()


async def institution(folder: Path, institutions: int, progress: Progress | None = None) -> None:
    """Run the institution of a folder in this process; see `Engine.run_institution`."""
    settings = build(ClientSettings, read_yaml(folder / CLIENT_FILE), source=CLIENT_FILE)
    retry_s, close_s = retry_for_s(institutions), close_retry_s(institutions)
    try:
        await InstitutionRunner(
            folder, settings, retry_for_s=retry_s, close_retry_s=close_s, progress=progress
        ).run()
    except PolicyRefused as error:
        raise InvalidInput(f"{folder.name} refuses: {error}") from None
