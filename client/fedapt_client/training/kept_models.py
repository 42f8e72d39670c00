"""Where finished models lie in an institution's folder: one file a session, and a name for the last one.

``models/SESSION.safetensors`` is the bundle of a session, ``models/SESSION.evaluation.json`` what it scored
on the images held out here. ``model.safetensors`` and ``evaluation.json`` are links to those of the session
that completed last. Nothing is overwritten: another session's model is another file.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import make_private_folder, write_atomically

MODELS_FOLDER: Final = "models"
MODEL_FILE: Final = "model.safetensors"
EVALUATION_FILE: Final = "evaluation.json"


class KeptModels:
    """The finished models of one institution.

    Args:
        folder: The party's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._models = folder / MODELS_FOLDER

    @property
    def last(self) -> Path:
        """The name of the model that was completed last; it may not be there."""
        return self._folder / MODEL_FILE

    def path(self, session: str) -> Path:
        """Return where the bundle of a session lies, or would lie.

        Args:
            session: The session, hexadecimal.
        """
        return self._models / f"{session}.safetensors"

    def evaluation(self, session: str) -> Path:
        """Return where what a session's model scored lies, or would lie.

        Args:
            session: The session, hexadecimal.
        """
        return self._models / f"{session}.evaluation.json"

    def find(self, bundle_hash: str) -> Path | None:
        """Return the file that holds a bundle, by its SHA-256, hexadecimal."""
        files = sorted(self._models.glob("*.safetensors")) if self._models.is_dir() else []
        for path in (*files, self.last):
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == bundle_hash:
                return path
        return None

    def check(self) -> None:
        """See that there is a place for models.

        Raises:
            InvalidInput: If something else lies there.
        """
        if self._models.exists() and not self._models.is_dir():
            raise InvalidInput(f"{self._models} is where finished models are kept: move what lies there away")

    def keep(self, session: str, bundle: bytes) -> Path:
        """Store the bundle of a session durably; the same one again is fine.

        Raises:
            Unavailable: If it cannot be written for now.
            InvalidInput: If another one of that session lies there, which stays, or it cannot be written.
        """
        self.check()
        path = self.path(session)
        try:
            make_private_folder(self._models)
            if not path.exists():
                write_atomically(path, bundle)
                return path
            kept = path.read_bytes()
        except OSError as error:
            raise system_error(f"cannot write {path}", error) from None
        if kept != bundle:
            raise InvalidInput(f"{path} is another model of this session; it is left as it is")
        return path

    def keep_evaluation(self, session: str, evaluation: bytes) -> None:
        """Store what a session's model scored, and let both names stand for that session from now on.

        Raises:
            Unavailable, InvalidInput: If it cannot be written.
        """
        path = self.evaluation(session)
        try:
            make_private_folder(self._models)
            write_atomically(path, evaluation)
            self.name_last(self.path(session))
            self._link(self._folder / EVALUATION_FILE, path)
        except OSError as error:
            raise system_error(f"cannot write {path}", error) from None

    def name_last(self, path: Path) -> None:
        """Let ``model.safetensors`` stand for a model."""
        self._link(self.last, path)

    def _link(self, name: Path, target: Path) -> None:
        """Point a name to a file, at once; a file that has the name itself is kept beside the others."""
        if name.exists() and not name.is_symlink():
            mark = hashlib.sha256(name.read_bytes()).hexdigest()[:16]
            kept = self._models / f"earlier-{mark}{name.suffix}"
            if kept.exists():
                name.unlink()
            else:
                name.rename(kept)
        fresh = name.with_name(f".{name.name}.{secrets.token_hex(4)}")
        fresh.symlink_to(target.relative_to(self._folder))
        fresh.replace(name)
