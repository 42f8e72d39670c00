"""Whether a session's model, log and ledger have room here: known before anything is spent."""

import shutil
from pathlib import Path
from typing import Final

from fedapt_client.training.kept_models import KeptModels
from fedapt_crypto.errors import Unavailable
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration

LINES_BYTES: Final = 64 << 10
"""What log and ledger take for a round, with the heads of hundreds of logs."""


def bytes_of_session(configuration: SessionConfiguration) -> int:
    """Return what a session writes here at most, besides the features of images."""
    shape = configuration.plan.shape
    model = 4 * (shape.size + shape.domains * shape.key[0] * shape.key[1])
    return 2 * model + LINES_BYTES * configuration.plan.rounds  # a file is written beside the one it replaces


def check_space(folder: Path, configuration: SessionConfiguration) -> None:
    """Check that a session's model can be kept in an institution's folder.

    Raises:
        Unavailable: If there is too little room.
        InvalidInput: If something else lies where models are kept.
    """
    KeptModels(folder).check()
    needed, free = bytes_of_session(configuration), shutil.disk_usage(folder).free
    if free < needed:
        full = Unavailable(
            f"the session takes up to {needed / 1e6:.1f} MB in {folder}, where {free / 1e6:.1f} MB are free:"
            " free disk space, then start it again"
        )
        full.code = Reason.NO_SPACE.value
        raise full
