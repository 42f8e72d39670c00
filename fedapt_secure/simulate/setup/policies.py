"""The policy and the ledger of each simulated institution, fitted to what the run was asked for."""

import secrets
from pathlib import Path

from fedapt_client.books.fingerprints import KEY_BYTES
from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import make_private_folder, read_private, write_atomically
from fedapt_crypto.secagg import registry
from fedapt_secure.config.policy import Policy
from fedapt_secure.config.ranges import LARGEST_MESSAGE_BYTES
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.data.counting import count_training
from fedapt_secure.learning.data.dealing import DealtDataset, DealtInstitution
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.privacy.budget import LARGEST_DELTA, declared_records, default_delta
from fedapt_secure.privacy.unit import PrivacyUnit, unit_of
from fedapt_secure.protocol.methods import ZERO_SHOT, method_facts

LEDGER_NAME = "ledger.sqlite"
CACHE_NAME = "cache"
SUBJECTS_KEY = "subjects.key"
"""Beside lasting ledgers: makes subjects out of PatientIDs."""


def declared_units(
    settings: SimulateSettings, institution: DealtInstitution, dataset: DealtDataset
) -> tuple[int, PrivacyUnit] | None:
    """Return N̂ of an institution, and of what it is a count; ``None`` where nothing is planned."""
    if settings.epsilon is None or settings.method == ZERO_SHOT:
        return None
    counted = count_training(read_records(institution.data, dataset.class_names, settings.reading).records)
    count = counted.images if counted.persons is None else counted.persons
    return declared_records(max(1, count)), unit_of(has_subjects=counted.persons is not None)


def fitting_policy(
    settings: SimulateSettings,
    institution: DealtInstitution,
    dataset: DealtDataset,
    declared: tuple[int, PrivacyUnit] | None,
) -> Policy:
    """Return a policy under which this run is allowed, and over a lasting ledger no more than asked for.

    The run is one session, and may plan all that it asks for. δ grows with ``max_epsilon``, and runs add up:
    as many like this one as ε allows, whatever their size.

    Args:
        settings: What the run was asked for.
        institution: Whose policy.
        dataset: Who holds which images.
        declared: What `declared_units` gave for it.
    """
    epsilon, federated = settings.epsilon, method_facts(settings.method).federated
    fields: dict[str, object] = {}
    if epsilon is not None and declared is not None:
        max_epsilon = settings.max_epsilon or epsilon
        delta = settings.dp_delta or _default_delta(institution, dataset, *declared)
        fields = {
            "max_epsilon": max_epsilon,
            "max_delta": min(delta * max_epsilon / epsilon, 0.5),
            "session_epsilon": epsilon,
            "session_delta": delta,
            "composition": "sum",
        }
    return Policy.model_validate(
        {
            **fields,
            "require_differential_privacy": settings.not_private is None,
            "aggregation": (exchange_of(settings),),
            "minimum_participants": registry.MIN_INSTITUTIONS[settings.secure_aggregation]
            if federated
            else 1,
            "minimum_institutions_per_key": 1,  # `Hiding` says what that means, in plan, offer and audit
            "minimum_records": 0,  # one operator has all images: nobody is to be kept from taking part
            "minimum_persons": 0,
            "max_unused": settings.max_unused,
            "max_message_bytes": LARGEST_MESSAGE_BYTES,  # nobody sends another what it did not ask for
            "unattended": True,  # one operator has asked for the whole run
        }
    )


def exchange_of(settings: SimulateSettings) -> str:
    """Return the scheme under which updates travel; ``none`` where an institution is by itself."""
    return settings.secure_aggregation if method_facts(settings.method).federated else registry.NONE


def _default_delta(
    institution: DealtInstitution, dataset: DealtDataset, declared: int, unit: PrivacyUnit
) -> float:
    """Return δ that follows from how many records or persons an institution has.

    Raises:
        InvalidInput: If they are too few for any, naming whose.
    """
    if dataset.synthetic:  # for cost only, whatever δ says: nobody is protected
        return min(1 / (2 * declared), LARGEST_DELTA)
    try:
        return default_delta(declared, unit)
    except InvalidInput as error:
        raise InvalidInput(f"{institution.name}: {error}") from None


def ledger_path(settings: SimulateSettings, name: str) -> Path:
    """Return where an institution's ledger lies: in its own folder, or among the lasting ones.

    Raises:
        InvalidInput: If a folder for lasting ledgers cannot be made.
    """
    if settings.ledger is None:
        return Path(LEDGER_NAME)
    try:
        return make_private_folder(_lasting(settings.ledger) / name) / LEDGER_NAME
    except OSError as error:
        raise system_error(f"cannot make the ledger folder {settings.ledger / name}", error) from None


def cache_path(settings: SimulateSettings, name: str) -> Path:
    """Return where an institution keeps its features: in its own folder, or among the lasting ones.

    Raises:
        InvalidInput: If a folder for lasting features cannot be made.
    """
    if settings.cache is None:
        return Path(CACHE_NAME)
    try:
        return _lasting(settings.cache) / name
    except OSError as error:
        raise system_error(f"cannot make the cache folder {settings.cache}", error) from None


def people_of(settings: SimulateSettings) -> PatientKey | None:
    """Return what makes subjects out of PatientIDs, where the run asks for that.

    Its key is as lasting as the ledgers: a person of an earlier run must be the same subject. Where each run
    counts alone, the key is kept nowhere.

    Raises:
        InvalidInput: If the key cannot be made or read.
    """
    if settings.subjects is None:
        return None
    if settings.ledger is None:
        return PatientKey(secrets.token_bytes(KEY_BYTES))
    try:
        path = make_private_folder(_lasting(settings.ledger)) / SUBJECTS_KEY
        if not path.exists():
            write_atomically(path, secrets.token_bytes(KEY_BYTES))
    except OSError as error:
        raise system_error(f"cannot make the key of subjects in {settings.ledger}", error) from None
    return PatientKey(read_private(path))


def _lasting(root: Path) -> Path:
    if not root.exists():
        make_private_folder(root)
    return root.resolve()
