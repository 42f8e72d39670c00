"""The command line ``fedapt-secure``: thin, quick to start, one clear line for every mistake.

`app` is the root of all commands and turns errors into one line and an exit status; `commands` has the
options, `work` what is done, `options` what several commands take. With `fedapt_secure.simulate` the one
place that may import both server and client.
"""

import sys

from fedapt_secure.process import interrupts, streams


def main() -> None:
    """Entry point; exits as `fedapt_secure.process.exit_status` has it."""
    interrupts.install()
    arguments = sys.argv[1:]
    streams.prepare(json_log=_asks_for_json_log(arguments))
    from fedapt_secure.cli.app import run  # noqa: PLC0415 - from here on Ctrl-C is taken

    sys.exit(run(arguments))


def _asks_for_json_log(arguments: list[str]) -> bool:
    """Return whether standard error is to be JSON lines: also what goes wrong before options are read."""
    return "--json-log" in arguments or (arguments[:2] == ["server", "enroll"] and "--json" in arguments)
