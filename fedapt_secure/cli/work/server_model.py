"""The work of ``fedapt-secure server model``: the bundle, where a session lets the coordinator have it."""

import hashlib
from pathlib import Path
from typing import Any

from fedapt_client.session.opening import expand_keys
from fedapt_client.training.fetch import session_from_hex
from fedapt_client.training.session_model import make_bundle, session_backbone
from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.learning.bundle import encode_bundle
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.archive.store import STORE_FILE, SessionStore, StoredSession


def write_bundle(directory: Path, session: str | None, out: Path) -> dict[str, Any]:
    """Write a finished session's bundle, and return what it is.

    Args:
        directory: The coordinator's folder.
        session: Which session, hexadecimal; ``None`` for the one that ended last.
        out: The file to write.

    Raises:
        InvalidInput: If there is no such session, it has no model, its institutions keep the keys to
            themselves, or a file cannot be used.
    """
    wanted = None if session is None else session_from_hex(session)
    stored = _ended(directory, wanted)
    configuration, progress = stored.configuration, stored.progress
    name = configuration.session.hex()
    _check_allowed(configuration, name)
    if not progress.completed_rounds:
        raise InvalidInput(f"session {name[:16]} ended without a completed round: it has no model")
    backbone = session_backbone(configuration, "cpu", "float32")
    keys = expand_keys(configuration, stored.key_seeds, None)
    data = encode_bundle(make_bundle(configuration, backbone, progress.model, keys))
    try:
        write_atomically(out, data)
    except OSError as error:
        raise system_error(f"cannot write {out}", error) from None
    return {"path": str(out), "sha256": hashlib.sha256(data).hexdigest(), "session": name}


def _ended(directory: Path, wanted: bytes | None) -> StoredSession:
    store = SessionStore(directory) if (directory / STORE_FILE).exists() else None
    found = None if store is None else store.with_model() if wanted is None else store.find(wanted)
    if found is None or not found.progress.ended:
        raise InvalidInput("there is no such session that has ended: see 'fedapt-secure server status'")
    return found


def _check_allowed(configuration: SessionConfiguration, name: str) -> None:
    if configuration.blind:
        raise InvalidInput(
            f"nobody but its institutions has the model of session {name[:16]} (CKKS): ask one of them for it"
        )
    if configuration.keys_are_shared:
        raise InvalidInput(
            f"session {name[:16]} was not to give the coordinator its bundle (bundle_for_coordinator: false):"
            " only its institutions know the domain keys, ask one of them for it"
        )
