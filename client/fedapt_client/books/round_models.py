"""The model of the session that is under way, in the institution's folder, so that a restart goes on from it.

``rounds/SESSION-MODEL.safetensors``, named by what stands for the model. It counts only once the ledger names
it (`bindings`): written before, and durable. Files of other models and sessions are removed after that.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import make_private_folder, write_atomically
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector, check_vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash

FOLDER: Final = "rounds"
_TENSOR: Final = "parameters"


class RoundModels:
    """Models between rounds.

    Args:
        folder: The party's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def write(self, session: bytes, model_id: bytes, model: Vector) -> None:
        """Write a model durably; the others stay.

        Raises:
            Unavailable, InvalidInput: If it cannot be written.
        """
        path = self._path(session, model_id)
        try:
            make_private_folder(self._folder)
            write_atomically(path, safetensors.numpy.save({_TENSOR: model}))
        except OSError as error:
            raise system_error(f"cannot write {path}", error) from None

    def keep_only(self, session: bytes, model_id: bytes) -> None:
        """Remove all models but one, which the ledger names by now."""
        kept = self._path(session, model_id)
        for path in self._folder.glob("*.safetensors"):
            if path != kept:
                with suppress(OSError):  # it takes space and does nothing
                    path.unlink()

    def read(self, configuration: SessionConfiguration, model_id: bytes) -> Vector | None:
        """Return a model, or ``None`` where it is not there or not what it was: then others have it.

        Args:
            configuration: The session.
            model_id: What stands for the model.
        """
        try:
            data = self._path(configuration.session, model_id).read_bytes()
            model: Vector = safetensors.numpy.load(data)[_TENSOR].astype(np.float32, copy=False)
            check_vector(configuration.plan.shape, model)
        except (OSError, SafetensorError, KeyError, ValueError, InvalidInput):
            return None
        if not configuration.blind and model_hash(m.model_to_bytes(model)) != model_id:
            return None
        return model

    def _path(self, session: bytes, model_id: bytes) -> Path:
        return self._folder / f"{session.hex()}-{model_id.hex()[:32]}.safetensors"
