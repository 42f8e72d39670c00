"""The command line ``fedapt-secure``: thin, quick to start, one clear line for every mistake.

`app` is the root of all commands and turns errors into one line and an exit status; `commands` has the
options, `work` what is done, `options` what several commands take. With `fedapt_secure.simulate` the one
place that may import both server and client.
"""

import sys

from fedapt_secure.cli.app import run


def main() -> None:
    """Entry point; exits as `fedapt_secure.process.exit_status` has it."""
    sys.exit(run(sys.argv[1:]))
