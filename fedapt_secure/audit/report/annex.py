"""The annex as files: DPIA annex, registry record, evidence index."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.audit.report.dossier import Dossier
from fedapt_secure.audit.report.dpia import dpia
from fedapt_secure.audit.report.record_keeping import record_keeping
from fedapt_secure.audit.report.registry import registry_record
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE

FILES: Final[Mapping[str, Callable[[Dossier], str]]] = {
    "dpia-annex.md": dpia,
    "dp-deployment.yaml": registry_record,
    "record-keeping.md": record_keeping,
}


def annex_files(dossier: Dossier) -> dict[str, str]:
    """Return the annex: the text of each file, by its name."""
    return {name: make(dossier) for name, make in FILES.items()}


def check_annex_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before the logs are read.

    Raises:
        InvalidInput: If it is no folder, and cannot become one.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"cannot write the annex: {folder} is no folder")
    if not folder.exists() and not folder.parent.is_dir():
        raise InvalidInput(f"cannot write the annex: there is no folder {folder.parent}")


def write_annex(folder: Path, dossier: Dossier) -> list[Path]:
    """Write the annex; files of an earlier one are replaced.

    Args:
        folder: Where to; it is made where it is not there.
        dossier: What the audit found, and what goes with it.

    Returns:
        The files.

    Raises:
        InvalidInput: If one cannot be written.
    """
    written = []
    try:
        folder.mkdir(exist_ok=True)
        for name, text in annex_files(dossier).items():
            write_atomically(folder / name, text.encode(), mode=PUBLIC_FILE_MODE)
            written.append(folder / name)
    except OSError as error:
        raise system_error(f"cannot write the annex to {folder}", error) from None
    return written
