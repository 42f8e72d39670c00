"""Which policy holds in an institution's folder: asked here by all who show or apply it.

Two commands that looked for it in two ways would show two figures, and one of them wrong.
"""

from dataclasses import dataclass
from pathlib import Path

from fedapt_client.settings import SETTINGS_FILE, ClientSettings, read_settings
from fedapt_secure.config.policy import POLICY_FILE, Policy, read_policy
from fedapt_secure.privacy.budget import SessionShare


@dataclass(frozen=True)
class PolicyInForce:
    """A policy and where it is from.

    Attributes:
        policy: What holds.
        file: The file that says so, or would.
        from_file: Whether there is that file; without it the defaults hold.
    """

    policy: Policy
    file: Path
    from_file: bool

    @property
    def source(self) -> str:
        """The file, or that there is none, for people."""
        return str(self.file) if self.from_file else f"defaults: there is no policy file {self.file}"


def policy_in_force(folder: Path, settings: ClientSettings) -> PolicyInForce:
    """Return the policy of an institution.

    Args:
        folder: The party's folder, to which paths in its settings are relative.
        settings: Its settings, which say where the policy lies.

    Raises:
        InvalidInput: If it is there and cannot be used.
    """
    file = folder / settings.policy
    policy, found = read_policy(file)
    return PolicyInForce(policy, file, found)


def share_of(settings: ClientSettings, policy: Policy) -> SessionShare:
    """Return the ε and δ for which a new session is planned: what settings ask for, else policy allows."""
    allowance = policy.allowance
    return SessionShare(
        epsilon=settings.dp_epsilon or allowance.session_epsilon,
        delta=settings.dp_delta or allowance.session_delta,
        exact=settings.dp_delta is not None,
    )


@dataclass(frozen=True)
class Place:
    """Where a ledger lies, and what governs it.

    Attributes:
        ledger: The ledger's file.
        in_force: The policy; ``None`` where the folder is no institution's and has none: then nobody can say
            what is left.
    """

    ledger: Path
    in_force: PolicyInForce | None


def place_of(folder: Path) -> Place:
    """Return ledger and policy of a party's folder, or of a folder in which a ledger lies by itself.

    Raises:
        InvalidInput: If settings or policy are there and cannot be used.
    """
    if (folder / SETTINGS_FILE).exists():
        settings = read_settings(folder)
        return Place(folder / settings.ledger, policy_in_force(folder, settings))
    default: Path = ClientSettings.model_fields["ledger"].default
    policy, found = read_policy(folder / POLICY_FILE)
    return Place(folder / default, PolicyInForce(policy, folder / POLICY_FILE, found) if found else None)
