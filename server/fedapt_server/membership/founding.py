"""Found a federation: the authority, the coordinator's own keys and certificate, its records.

Each step makes what is not there yet, so an interrupted founding is finished by founding again. What marks
it as done is the settings file, written last; from then on nothing here touches the folder.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.pki import CertificateAuthority, TlsKey
from fedapt_crypto.private_files import remove_leftovers, write_atomically
from fedapt_secure.config.annotated import write_annotated
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_server.membership import templates
from fedapt_server.membership.registrar import MEMBERSHIP_FILE, Registrar
from fedapt_server.settings import SETTINGS_FILE, ServerSettings


def found(
    folder: PartyFolder,
    settings: ServerSettings,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Registrar:
    """Make everything a coordinator needs but its settings file.

    Args:
        folder: Its folder, with the passphrase that is to protect its keys.
        settings: Its settings.
        clock: What time it is, for tests.

    Raises:
        InvalidInput: If the folder is a coordinator's already, or cannot be used.
    """
    check_free(folder)
    folder.make()
    remove_leftovers(folder.path, older_than_s=0)
    folder.complete_keys()
    if not folder.authority_key_file.exists():
        folder.store_authority_key(TlsKey.generate())
    if not folder.authority_file.exists():
        key = folder.authority_key()
        authority = CertificateAuthority.create(settings.federation, key, now=clock())
        write_atomically(folder.authority_file, authority.certificate_pem)
    registrar = Registrar(folder, settings, clock=clock)
    folder.settle()
    if not folder.certificate_file.exists():
        registrar.renew_own()
    return registrar


def write_settings(folder: PartyFolder, settings: ServerSettings) -> None:
    """Write the annotated settings, and an example of a session; the last step of founding."""
    tiny = templates.TINY_WEIGHTS
    example = {"domains": ["domain-a", "domain-b"], **tiny, **tiny["model_identity"]}
    write_annotated(folder.path / settings.session, templates.SESSION, example)
    write_annotated(folder.path / SETTINGS_FILE, templates.SERVER, settings.model_dump(mode="json"))


def check_free(folder: PartyFolder) -> None:
    """Refuse a folder that is a coordinator's, or holds what is none of ours.

    Raises:
        InvalidInput: With what to do instead.
    """
    path = folder.path
    if (path / SETTINGS_FILE).exists():
        raise InvalidInput(
            f"{path} is a coordinator's folder already; nothing was changed: choose another with --dir"
        )
    if not path.exists():
        return
    if not path.is_dir():
        raise InvalidInput(f"{path} is not a folder: choose another with --dir")
    ours = {
        folder.identity_file.name,
        folder.sealing_file.name,
        folder.authority_key_file.name,
        folder.authority_file.name,
        folder.private_key_file.name,
        folder.next_private_key_file.name,
        folder.certificate_file.name,
        folder.next_certificate_file.name,
        folder.revocation_file.name,
        "session.yaml",
    }
    foreign = sorted(
        entry.name
        for entry in path.iterdir()
        if not (entry.name in ours or entry.name.startswith((MEMBERSHIP_FILE, ".")))
    )
    if foreign:
        raise InvalidInput(f"{path} is not empty ({foreign[0]}): choose an empty folder with --dir")
