"""Set up a run folder as separate people would: authority, keys, certificates, roster, images.

Every party gets a folder of its own under ``parties/`` and afterwards talks to the others only through
sockets; nothing here is shared with them in memory.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.settings import ClientSettings, parse_vanish
from fedapt_crypto.errors import FedaptError, InvalidInput
from fedapt_crypto.private_files import make_private_folder, write_atomically
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_crypto.secagg import registry
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE, roster_to_json
from fedapt_secure.config.policy import POLICY_FILE
from fedapt_secure.config.ranges import LARGEST_MESSAGE_BYTES
from fedapt_secure.config.settings import write_yaml
from fedapt_secure.config.simulate import DEFAULT_EPSILON, RAY, SimulateSettings
from fedapt_secure.learning.clip.backbone import Backbone, choose_precision, load_backbone
from fedapt_secure.learning.clip.device import resolve_device
from fedapt_secure.learning.clip.templates import zero_shot_templates
from fedapt_secure.learning.data.dealing import (
    DIGITS,
    DealOptions,
    DealtDataset,
    DealtInstitution,
    deal_dataset,
    digit_clients,
)
from fedapt_secure.learning.training.plan_check import check_plan
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.simulate.engines.choosing import local_engine
from fedapt_secure.simulate.engines.engine import Engine
from fedapt_secure.simulate.engines.patience import answer_within_s, max_connections
from fedapt_secure.simulate.setup.enrolling import enrol_all
from fedapt_secure.simulate.setup.planning import method_choices, session_plan
from fedapt_secure.simulate.setup.policies import (
    cache_path,
    declared_units,
    fitting_policy,
    ledger_path,
    people_of,
)
from fedapt_secure.simulate.setup.run_folder import RunFolder, new_run_folder, run_path
from fedapt_secure.simulate.setup.unsupervised import resolved as resolved_unsupervised
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from fedapt_server.settings import ServerSettings


@dataclass(frozen=True)
class Federation:
    """A run that is ready to start.

    Attributes:
        folder: Where it keeps what. settings: What was asked for. dataset: Who holds which images.
        roster: Who takes part. device: ``cpu`` or ``cuda``. engine: Runs the parties.
        plan: What is trained, and how; where it is `local`, what each institution does by itself.
        model_values: Number of values of the whole CLIP.
    """

    folder: RunFolder
    settings: SimulateSettings
    dataset: DealtDataset
    roster: Roster
    device: str
    precision: str
    plan: SessionPlan
    model_values: int
    engine: Engine

    @property
    def institutions(self) -> tuple[str, ...]:
        """Names in roster order."""
        return self.roster.names


def parse_failures(settings: SimulateSettings, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return institution to its ``ROUND:PHASE`` entries.

    Raises:
        InvalidInput: For an institution, round or phase that this run does not have.
    """
    failures: dict[str, list[str]] = {}
    phases = registry.phases(settings.secure_aggregation)
    for entry in settings.fail:
        name, _, when = entry.partition("@")
        if name not in names:
            raise InvalidInput(f"--fail {entry}: no institution {name!r}; there are {', '.join(names)}")
        try:
            number, phase = parse_vanish(when)
        except ValueError as error:
            raise InvalidInput(f"--fail {entry}: {error}") from None
        if number > settings.rounds:
            raise InvalidInput(f"--fail {entry}: there are {settings.rounds} rounds only")
        if phase not in phases:
            raise InvalidInput(
                f"--fail {entry}: {settings.secure_aggregation!r} has the phases {', '.join(phases)}"
            )
        failures.setdefault(name, []).append(when)
    return {name: tuple(entries) for name, entries in failures.items()}


def institution_names(settings: SimulateSettings, clients: int) -> tuple[str, ...]:
    """Return ``clinic-1`` to ``clinic-N``, checked against what the scheme can do.

    Raises:
        InvalidInput: If these are too few or too many for it.
    """
    least = registry.MIN_INSTITUTIONS[settings.secure_aggregation]
    most = registry.MAX_INSTITUTIONS[settings.secure_aggregation]
    if not least <= clients <= most:
        without = "" if settings.unseen_domain is None else " without the unseen domain"
        raise InvalidInput(
            f"secure aggregation {settings.secure_aggregation!r} works with {least} to {most} institutions,"
            f" this data set gives {clients}{without}: choose with --clients or --institutions-per-domain"
        )
    return tuple(f"clinic-{number}" for number in range(1, clients + 1))


def prepare(
    settings: SimulateSettings, dealt: DealtDataset | None = None, engine: Engine | None = None
) -> Federation:
    """Make the run folder with everything in it that parties need before they meet.

    Args:
        settings: What was asked for.
        dealt: What `deal` gave for the same data and seed, to spare dealing again; by default the images are
            dealt into the run folder.
        engine: What runs the parties; by default what the settings ask for on this machine.

    Raises:
        InvalidInput: If model, data, device or run folder cannot be used; no folder is left behind then.
    """
    clients = check(settings)
    engine = engine or local_engine(settings)
    if clients is not None:
        engine.make_room(clients)
    device = resolve_device(settings.institution_device)
    precision = choose_precision(settings.precision, device, settings.model)
    backbone = load_backbone(settings.model, settings.pretrained, device, precision, settings.activation)
    wanted = run_path(settings)
    made = next((path for path in reversed((wanted, *wanted.parents)) if not path.exists()), None)
    folder = new_run_folder(wanted)
    try:
        return _fill(folder, settings, backbone, dealt, engine)
    except FedaptError:
        # Leave things as they were: what we made goes, an empty folder of the user's stays.
        for path in [made] if made is not None else list(wanted.iterdir()):
            shutil.rmtree(path)
        raise


def check(settings: SimulateSettings) -> int | None:
    """Check what costs next to nothing, so that a typing mistake costs no model loading and no Ray.

    Returns:
        How many institutions there will be, where that is known without the data.

    Raises:
        InvalidInput: With the reason.
    """
    check_method(settings)
    if settings.template is not None:
        zero_shot_templates(settings.template)
    if settings.dataset not in DIGITS:
        return None
    clients = digit_clients(settings.clients, deal_options(settings))
    parse_failures(settings, institution_names(settings, clients))
    return clients


def deal_options(settings: SimulateSettings) -> DealOptions:
    """Return how the data set of a run is dealt."""
    return DealOptions(
        domains=settings.domains,
        classes=settings.classes,
        institutions_per_domain=settings.institutions_per_domain,
        dirichlet=settings.dirichlet,
        dirichlet_over=settings.dirichlet_over,
        test_share=settings.test_share,
        few_shot=settings.few_shot,
        template=settings.template,
        unseen_domain=settings.unseen_domain,
        max_unused=settings.max_unused,
    )


def deal(settings: SimulateSettings, destination: Callable[[str], Path]) -> DealtDataset:
    """Deal the images that a run is about; see `deal_dataset`."""
    return deal_dataset(
        settings.dataset,
        settings.clients,
        settings.seed,
        settings.data_root,
        destination,
        replace(deal_options(settings), people=people_of(settings)),
    )


def _fill(
    folder: RunFolder,
    settings: SimulateSettings,
    backbone: Backbone,
    dealt: DealtDataset | None,
    engine: Engine,
) -> Federation:
    dataset = dealt or deal(settings, lambda name: make_private_folder(folder.party(name)) / "data")
    if settings.template is not None:  # what was dealt before may have had another; nothing else differs
        dataset = replace(dataset, zero_shot_template=settings.template)
    for institution in (*dataset.institutions, *dataset.unseen):
        make_private_folder(folder.party(institution.name))
    institution_names(settings, len(dataset.institutions))
    names = tuple(one.name for one in dataset.institutions)
    parse_failures(settings, names)
    engine.make_room(len(names))
    declared = {one.name: declared_units(settings, one, dataset) for one in dataset.institutions}
    counts = [one[0] for one in declared.values() if one is not None]
    plan = session_plan(settings, dataset, backbone, counts)
    check_plan(plan, backbone)
    roster = enrol_all(folder, dataset, engine.host)
    if method_facts(plan.method).federated:
        SessionConfiguration.drafted(plan, roster).check_scheme()
    write_atomically(folder.roster, roster_to_json(roster).encode(), mode=PUBLIC_FILE_MODE)
    coordinator = folder.party(COORDINATOR)
    write_yaml(coordinator / "session.yaml", plan, comment="The session, as decided by its operator.")
    server = ServerSettings(
        host=engine.host,
        port=0,
        log=Path("../../logs") / f"{COORDINATOR}.jsonl",
        experiment_seed=settings.seed,
        max_connections=max_connections(len(names)),
        answer_within_s=answer_within_s(len(names)),
        max_message_bytes=LARGEST_MESSAGE_BYTES,  # as `fitting_policy` has it for the others
    )
    write_yaml(coordinator / SERVER_FILE, server, comment="The coordinator's settings.")
    for institution in dataset.institutions:
        policy = fitting_policy(settings, institution, dataset, declared[institution.name])
        path = folder.party(institution.name) / POLICY_FILE
        write_yaml(path, policy, comment="The institution's policy: no coordinator can change it.")
    count = len(names) + len(dataset.unseen)  # those that the images were dealt to
    _write_config(folder, settings, plan, count, backbone)
    return Federation(
        folder=folder,
        settings=settings,
        dataset=dataset,
        roster=roster,
        device=backbone.device.type,
        precision=backbone.precision,
        plan=plan,
        model_values=backbone.parameter_count,
        engine=engine,
    )


def check_method(settings: SimulateSettings) -> None:
    """Raise `InvalidInput` with the reason where the method cannot be run as the settings ask."""
    facts = method_facts(settings.method)
    if facts.never_private is not None and not settings.no_dp:
        raise InvalidInput(
            f"the method {settings.method} cannot be trained under differential privacy:"
            f" {facts.never_private}; give --no-dp"
        )
    if not facts.federated and (settings.fail or settings.processes or settings.engine == RAY):
        wanted = "--fail" if settings.fail else "--processes" if settings.processes else "--engine ray"
        raise InvalidInput(f"the method {settings.method} has no parties that talk: leave out {wanted}")
    if facts.never_unsupervised is not None and settings.unsupervised:
        raise InvalidInput(
            f"the method {settings.method} cannot be trained without labels: {facts.never_unsupervised}"
        )


def connect_institutions(federation: Federation, port: int) -> None:
    """Write every institution's settings, with the port on which the coordinator listens."""
    failures = parse_failures(federation.settings, federation.institutions)
    for institution in federation.dataset.institutions:
        client = client_settings(federation, institution, port, failures.get(institution.name, ()))
        path = federation.folder.party(institution.name) / CLIENT_FILE
        write_yaml(path, client, comment="The institution's settings.")


def client_settings(
    federation: Federation, institution: DealtInstitution, port: int, vanish_at: tuple[str, ...] = ()
) -> ClientSettings:
    """Return an institution's settings, with the port on which the coordinator listens."""
    settings = federation.settings
    return ClientSettings(
        name=institution.name,
        host=federation.engine.host,
        port=port,
        answer_within_s=answer_within_s(len(federation.institutions)),
        data=institution.data.resolve(),
        reading=settings.reading,
        device=settings.institution_device,
        precision=settings.precision,
        dp_epsilon=settings.epsilon or DEFAULT_EPSILON,
        dp_delta=settings.dp_delta,
        ledger=ledger_path(settings, institution.name),
        cache=cache_path(settings, institution.name),
        log=Path("../../logs") / f"{institution.name}.jsonl",
        experiment_seed=settings.seed,
        insecure_deterministic_noise=settings.insecure_deterministic_noise,
        fixed_answer_time=False,  # all of it is on one machine
        vanish_at=vanish_at,
    )


def _write_config(
    folder: RunFolder, settings: SimulateSettings, plan: SessionPlan, clients: int, backbone: Backbone
) -> None:
    resolved = settings.model_copy(
        update={
            **method_choices(settings),
            "clients": clients,
            "institutions_per_domain": None,  # comes to the same as the number in all
            **resolved_unsupervised(plan),
            "device": backbone.device.type,
            "precision": backbone.precision,
            "out": folder.path,
        }
    )
    write_yaml(
        folder.config,
        resolved,
        comment="Every option of this run, as it was resolved.",
        mode=PUBLIC_FILE_MODE,
    )
