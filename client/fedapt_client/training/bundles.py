"""The finished model at an institution: described where it lies in the folder, otherwise fetched."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedapt_client.books.own_log import Past, read_own_log
from fedapt_client.settings import ClientSettings
from fedapt_client.training.fetch import fetch_model, session_from_hex
from fedapt_client.training.kept_models import KeptModels
from fedapt_crypto.errors import InvalidInput, RunFailed, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.bundle import FORMAT_VERSION, OLDEST_FORMAT, Bundle, decode_bundle

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
        InvalidInput: If a file cannot be read or written, or the session has no model.
        RunFailed: If it cannot be fetched, or is not the one that this institution has recorded.
    """
    wanted = None if session is None else session_from_hex(session).hex()
    sessions = read_own_log(folder.path / settings.log).sessions
    models = KeptModels(folder.path)
    path = _held(models, sessions, wanted)
    if path is not None:
        data = _read(path)
        of = {past.bundle: name for name, past in sessions.items()}.get(hashlib.sha256(data).hexdigest())
        shown = path if out is None else _written(out, data)
        return _described(shown, data, decode_bundle(data, str(path)), of, HERE)
    if wanted is not None and wanted in sessions and sessions[wanted].unfinished:
        raise InvalidInput(f"session {wanted[:16]} ended without a completed round: it has no model")
    fetched = fetch_model(folder, settings, None if wanted is None else bytes.fromhex(wanted))
    name = fetched.session.hex()
    recorded = sessions[name].bundle if name in sessions else None
    if recorded not in (None, fetched.bundle_hash.hex()):
        raise RunFailed(
            f"the coordinator's model of session {name[:16]} is not the one that this institution recorded at"
            " its end: tell the other institutions"
        )
    target = _written(out, fetched.data) if out is not None else _kept(models, name, fetched.data)
    return _described(target, fetched.data, fetched.bundle, name, FETCHED)


def _held(models: KeptModels, sessions: Mapping[str, Past], wanted: str | None) -> Path | None:
    """Return the file of a session's model, or of the last one, where it is here."""
    if wanted is None:
        return models.last if models.last.exists() else None
    path = models.path(wanted)
    if path.exists():
        return path
    bundle = sessions[wanted].bundle if wanted in sessions else None
    return None if bundle is None else models.find(bundle)


def _kept(models: KeptModels, session: str, data: bytes) -> Path:
    path = models.keep(session, data)
    try:
        if not models.last.exists():
            models.name_last(path)
    except OSError as error:
        raise system_error(f"cannot write {models.path(session)}", error) from None
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise system_error(f"cannot read {path}", error) from None


def _written(path: Path, data: bytes) -> Path:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise system_error(f"cannot write {path}", error) from None
    return path


def _described(path: Path, data: bytes, bundle: Bundle, session: str | None, origin: str) -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "session": session,
        "origin": origin,
        "bundle_format": FORMAT_VERSION if bundle.model_identity is not None else OLDEST_FORMAT,
        "method": bundle.shape.method,
        "trained_values": bundle.shape.size,
        "model": bundle.model,
        "pretrained": bundle.pretrained,
        "weight_hash": bundle.weight_hash,
        "model_hash": bundle.model_hash,
        "logit_scale": bundle.logit_scale,
        "class_names": list(bundle.class_names),
        "domains": list(bundle.domains),
        "keys": list(bundle.key_names) if bundle.keys is not None else None,
    }
