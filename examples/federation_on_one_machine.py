"""Run a whole federation on this machine from Python, and use the model that comes out of it.

    python examples/federation_on_one_machine.py RUN-FOLDER [ROUNDS]

The same server, clients and cryptography as in `fedapt-secure simulate`, here with three institutions.
"""

import sys
from pathlib import Path

from rich.console import Console

import fedapt_secure
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.simulate.command import simulate


def main(folder: str, rounds: str = "30") -> None:
    settings = SimulateSettings(clients=3, dp_epsilon=8, rounds=int(rounds), out=Path(folder))
    federation, summary = simulate(settings, Console())
    for name, spent in summary["privacy"].items():
        print(f"{name} spent epsilon {spent['epsilon_spent']:.2f} of {spent['epsilon_budget']:g}")

    model = fedapt_secure.load(federation.folder.model)
    image = next(federation.dataset.institutions[0].data.glob("seven/*.png"))
    [answer] = model.predict([image])
    print(f"a seven of {model.domains[0]}: {answer.label}, as in {answer.domain}")


if __name__ == "__main__":
    main(*sys.argv[1:])
