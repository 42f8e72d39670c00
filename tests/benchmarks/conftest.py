"""The scripts import each other by their bare names, as they do when they are run."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "benchmarks"

if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))
