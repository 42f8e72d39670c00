"""Every domain left out in turn: one run for each, and a table of how models do on what they never saw."""

import json
from typing import Any

from rich.console import Console
from rich.markup import escape

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.simulate.command import simulate
from fedapt_secure.simulate.results.unseen import as_file_name, domain_names
from fedapt_secure.simulate.results.unseen_table import mean_of, unseen_by_method
from fedapt_secure.simulate.setup.run_folder import run_path

SUMMARY = "summary.json"


def leave_one_out(settings: SimulateSettings, console: Console) -> dict[str, Any]:
    """Run once for each domain, without it, and show how the models do on the domains they did not see.

    Args:
        settings: As for one run; each has a folder of its own in ``out``.
        console: Where to show it.

    Returns:
        What stands in ``summary.json``: the figures of each unseen domain, and their means.

    Raises:
        InvalidInput: If a run cannot be carried out.
        RunFailed: If a run could not be finished.
    """
    folder = run_path(settings)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"the run folder {folder} is not empty: choose another with --out")
    domains = domain_names(settings)
    found: dict[str, dict[str, Any]] = {}
    for number, domain in enumerate(domains, 1):
        console.rule(f"without {escape(domain)}, {number} of {len(domains)}")
        out = folder / f"{number}-{as_file_name(domain)}"
        _, summary = simulate(settings.model_copy(update={"unseen_domain": domain, "out": out}), console)
        found[domain] = summary["unseen"]
    method = settings.method
    accuracies = {
        "zero-shot": {domain: one["all"]["zero_shot"] for domain, one in found.items()},
        method_facts(method).title: {domain: one["all"]["top_1"] for domain, one in found.items()},
    }
    fields = {
        "method": method,
        "unseen": found,
        "mean": {name: mean_of(one) for name, one in accuracies.items()},
    }
    write_atomically(folder / SUMMARY, (json.dumps(fields, indent=2) + "\n").encode(), mode=PUBLIC_FILE_MODE)
    console.print(unseen_by_method(accuracies))
    console.print(f"Run folder: {folder}", markup=False, soft_wrap=True)
    return fields
