"""What an institution's folder says about the time: its log's last line, its certificate."""

from datetime import UTC, datetime
from pathlib import Path

from fedapt_client.settings import ClientSettings, read_settings
from fedapt_crypto.certificates import CertificateFacts
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.file import last_time
from fedapt_secure.protocol.clocks import Times


def own_times(folder: PartyFolder, theirs: datetime | None = None, *, now: datetime | None = None) -> Times:
    """Return what is known about the time; what the folder does not have is left out.

    Args:
        folder: The institution's folder.
        theirs: What the coordinator says the time is, just now.
        now: What time it is here, for tests.
    """
    last_line = last_time(folder.path / _log(folder))
    return Times(now or datetime.now(UTC), theirs, last_line, _certificate(folder))


def _certificate(folder: PartyFolder) -> CertificateFacts | None:
    try:
        return folder.certificate()
    except InvalidInput:
        return None


def _log(folder: PartyFolder) -> Path:
    try:
        return read_settings(folder.path).log
    except InvalidInput:  # not there yet, or not to be read: another check says so
        log: Path = ClientSettings.model_fields["log"].default
        return log
