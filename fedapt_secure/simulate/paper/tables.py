"""Which tables there are, and what each is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.methods import COCOOP, FEDCLIP, LOCAL, PROMPTFL
from fedapt_secure.simulate.paper.rows import (
    CONTEXT_TOKENS,
    FEWER_TOKENS,
    WITH_LABELS,
    WITHOUT_LABELS,
    TableRow,
    ablations,
    methods,
)

ONE_A_DOMAIN: Final[Mapping[str, Mapping[str, Any]]] = {
    PROMPTFL: {"learning_rate": 1.0},
    COCOOP: {"learning_rate": 1.0},
    LOCAL: {"learning_rate": 1.0},  # it is PromptFL, alone
}
"""What the reference code's scripts for one institution a domain have otherwise than FedAPT's."""
FIVE_A_DOMAIN: Final[Mapping[str, Mapping[str, Any]]] = {
    PROMPTFL: {"rounds": 30},
    FEDCLIP: {"rounds": 30},
}
"""The same with five: 30 rounds, and FedAPT's learning rate."""


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        name: How it is asked for.
        title: What it is about.
        config: Which of the paper's configurations; ``None`` for the defaults of `simulate`.
        methods: The methods that it compares; empty for ablations of FedAPT.
        changes: What some methods have that the configuration has not.
        settings: What the table has that the configuration has not.
        domains: Number of domains.
    """

    name: str
    title: str
    config: str | None
    methods: tuple[str, ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    domains: int = 6

    @property
    def needs_data(self) -> bool:
        """Whether its images have to be given."""
        return self.config is not None

    def base(self, folder: Path) -> dict[str, Any]:
        """Return the options of `simulate` that all its runs share.

        Args:
            folder: Where the paper's configurations lie.

        Raises:
            InvalidInput: If its configuration is missing or wrong.
        """
        if self.config is None:
            return dict(self.settings)
        path = folder / f"{self.config}.yaml"
        found = read_yaml(path)
        build(SimulateSettings, found, source=str(path))
        return found | dict(self.settings)

    def rows(self, base: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[TableRow, ...]:
        """Return all its rows.

        Args:
            base: Its configuration, with ``given`` in it.
            given: What was asked for, and wins over what single methods have otherwise.
        """
        if self.methods:
            return methods(
                self.methods,
                {
                    method: {name: value for name, value in changes.items() if name not in given}
                    for method, changes in self.changes.items()
                },
                str(base["model"]),
            )
        whole = build(SimulateSettings, {"no_dp": True} | dict(base), source="paper", as_options=True)
        tokens = CONTEXT_TOKENS if self.needs_data else FEWER_TOKENS
        return ablations(whole.model_dump(), self.domains, tokens)


def _methods(name: str, title: str, **others: Any) -> PaperTable:
    labels = "unsupervised" not in name
    chosen = WITH_LABELS if labels else WITHOUT_LABELS
    setting = "with labels" if labels else "without labels"
    config = name.replace("-", "_") + ("_supervised" if name.endswith("-unseen") else "")
    return PaperTable(name, f"{title}, {setting}", config, chosen, **others)


TABLES: Final = {
    table.name: table
    for table in (
        _methods("domainnet-supervised", "DomainNet, 6 institutions", changes=ONE_A_DOMAIN),
        _methods("domainnet-unsupervised", "DomainNet, 6 institutions"),
        _methods("domainnet-30-supervised", "DomainNet, 30 institutions", changes=FIVE_A_DOMAIN),
        _methods("domainnet-30-unsupervised", "DomainNet, 30 institutions"),
        _methods("domainnet-10-supervised", "DomainNet, 10 classes", changes=ONE_A_DOMAIN),
        _methods("domainnet-10-unsupervised", "DomainNet, 10 classes"),
        _methods("office-caltech10-supervised", "Office-Caltech10", changes=ONE_A_DOMAIN, domains=4),
        _methods("office-caltech10-unsupervised", "Office-Caltech10", domains=4),
        _methods("domainnet-unseen", "DomainNet, each domain left out, ViT-L/14", changes=ONE_A_DOMAIN),
        _methods(
            "officehome-unseen", "OfficeHome, each domain left out, ViT-L/14", changes=ONE_A_DOMAIN, domains=4
        ),
        _methods("pacs-unseen", "PACS, each domain left out, ViT-L/14", changes=ONE_A_DOMAIN, domains=4),
        PaperTable("ablations", "What each part is worth: DomainNet", "domainnet_supervised"),
        PaperTable(
            "ablations-office-caltech10",
            "What each part is worth: Office-Caltech10",
            "office_caltech10_supervised",
            domains=4,
        ),
        PaperTable("ablations-digits", "What each part is worth: the embedded digits", None, domains=5),
        PaperTable(
            "ablations-digits-flipped",
            "What each part is worth: the embedded digits, two domains upside down",
            None,
            settings={"dataset": "digits-flipped"},
            domains=5,
        ),
    )
}
"""By name. What the reference code has no script for (FedAvg, FedProx, local) has FedAPT's settings."""


def table_named(name: str) -> PaperTable:
    """Return a table; raises `InvalidInput` where there is none of that name."""
    if name not in TABLES:
        raise InvalidInput(f"there is no table {name!r}: choose {', '.join(TABLES)}")
    return TABLES[name]
