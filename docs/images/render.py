"""Draw the picture of the result table in the README: ``python docs/images/render.py``."""

import io
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME

from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.simulate.command import simulate
from fedapt_secure.simulate.results.display import print_result
from fedapt_secure.simulate.setup.run_folder import RunFolder


def main() -> None:
    """Run the default simulation and save what its result looks like on a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SimulateSettings(dp_epsilon=8, out=Path(folder) / "run")
        federation, summary = simulate(settings, Console())
    terminal = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    shown = replace(federation, folder=RunFolder(Path("runs/20261123T160000Z-seed0")))
    print_result(terminal, shown, summary)
    svg = terminal.export_svg(title="fedapt-secure simulate --dp-epsilon 8", theme=SVG_EXPORT_THEME)
    # The picture must show the same without a network: no fonts from elsewhere.
    kept = [line.rstrip() for line in svg.splitlines() if "https://cdnjs" not in line]
    kept = [line.replace('local("FiraCode-Regular"),', 'local("FiraCode-Regular");') for line in kept]
    kept = [line.replace('local("FiraCode-Bold"),', 'local("FiraCode-Bold");') for line in kept]
    (Path(__file__).parent / "result.svg").write_text("\n".join(kept) + "\n")


if __name__ == "__main__":
    main()
