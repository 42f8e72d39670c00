"""A coordinator's folder as commands open it. Libraries are imported late: most commands need few."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.options import open_folder

if TYPE_CHECKING:
    from fedapt_server.membership.registrar import Registrar
    from fedapt_server.settings import ServerSettings


def open_registrar(directory: Path, passphrase_file: Path | None) -> "Registrar":
    """Return what keeps a coordinator's records.

    Args:
        directory: The coordinator's folder.
        passphrase_file: What opens its keys.

    Raises:
        InvalidInput: If it is no coordinator's folder, or a file is missing or broken.
    """
    from fedapt_server.membership.registrar import Registrar  # noqa: PLC0415

    settings = read_server_settings(directory, None)
    return Registrar(open_folder(directory, passphrase_file), settings)


def read_server_settings(directory: Path, config: Path | None) -> "ServerSettings":
    """Return a coordinator's settings.

    Args:
        directory: Its folder.
        config: Another file than ``server.yaml`` in it.

    Raises:
        InvalidInput: If there are none, or they cannot be used.
    """
    from fedapt_secure.config.settings import build, read_yaml  # noqa: PLC0415
    from fedapt_server.settings import SETTINGS_FILE, ServerSettings  # noqa: PLC0415

    path = config or directory / SETTINGS_FILE
    if config is None and not path.exists():
        raise InvalidInput(
            f"{directory.resolve()} is not a coordinator's folder: run 'fedapt-secure server init' first, or"
            " name the folder with --dir"
        )
    return build(ServerSettings, read_yaml(path), source=str(path))
