"""The finished model at an institution: described where it lies in the folder, otherwise fetched."""

import hashlib
from pathlib import Path
from typing import Any

from fedapt_client.books.own_log import read_own_log
from fedapt_client.settings import ClientSettings
from fedapt_client.training.fetch import fetch_model, session_from_hex
from fedapt_client.training.learner import MODEL_FILE
from fedapt_crypto.errors import InvalidInput, RunFailed
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.bundle import FORMAT_VERSION, Bundle, decode_bundle

HERE, FETCHED = "this folder", "the coordinator"


def obtain(
    folder: PartyFolder, settings: ClientSettings, session: str | None, out: Path | None
) -> dict[str, Any]:
    """Return what a finished bundle is; the file is in place then.

    Args:
        folder: The party's folder.
        settings: Its settings.
        session: Which session, hexadecimal; ``None`` for the bundle that is there, or the last session.
        out: Where to write it, instead of the folder.

    Raises:
        InvalidInput: If a file cannot be read or written, or another session's model would be overwritten.
        RunFailed: If it cannot be fetched, or is not the one that this institution has recorded.
    """
    wanted = None if session is None else session_from_hex(session)
    path = folder.path / MODEL_FILE
    bundles = {past.bundle: name for name, past in read_own_log(folder.path / settings.log).sessions.items()}
    if path.exists():
        data = _read(path)
        bundle = decode_bundle(data, str(path))
        of = bundles.get(hashlib.sha256(data).hexdigest())
        if wanted is None or of == wanted.hex():
            return _described(_copied(data, path, out), data, bundle, of, HERE)
        if out is None:
            raise InvalidInput(
                f"{path} is the model of another session and is not overwritten: name a file with --out"
            )
    fetched = fetch_model(folder, settings, wanted)
    name = fetched.session.hex()
    recorded = {of: bundle_hash for bundle_hash, of in bundles.items()}.get(name)
    if recorded not in (None, fetched.bundle_hash.hex()):
        raise RunFailed(
            f"the coordinator's model of session {name[:16]} is not the one that this institution recorded at"
            " its end: tell the other institutions"
        )
    target = out or path
    _write(target, fetched.data)
    return _described(target, fetched.data, fetched.bundle, name, FETCHED)


def _copied(data: bytes, path: Path, out: Path | None) -> Path:
    if out is None:
        return path
    _write(out, data)
    return out


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None


def _described(path: Path, data: bytes, bundle: Bundle, session: str | None, origin: str) -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "session": session,
        "origin": origin,
        "bundle_format": FORMAT_VERSION,
        "method": bundle.shape.method,
        "trained_values": bundle.shape.size,
        "model": bundle.model,
        "pretrained": bundle.pretrained,
        "weight_hash": bundle.weight_hash,
        "logit_scale": bundle.logit_scale,
        "class_names": list(bundle.class_names),
        "domains": list(bundle.domains),
        "keys": list(bundle.key_names) if bundle.keys is not None else None,
    }
