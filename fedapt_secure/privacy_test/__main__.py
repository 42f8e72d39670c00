"""What an adversary learns of a record, against the claim: ``python -m fedapt_secure.privacy_test``.

Plants canaries among one institution's records, trains with the real code on parameters that an adversary
chose, and prints lower bounds on ε beside the ε that is claimed. docs/privacy-test.md says what they mean.
Exit status 1: the claim is refuted, or a check of the short version failed.
"""

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.privacy.unit import IMAGE, PERSON
from fedapt_secure.process import ending, interrupts, streams
from fedapt_secure.process.exit_status import ExitStatus

if TYPE_CHECKING:
    from fedapt_secure.privacy_test.progress_bar import RoundsBar

_FEWEST_CANARIES, _MOST_CANARIES = 100, 10_000_000
_MOST_ROUNDS = 10_000
_MOST_EPSILON = 30.0  # beyond, each record is told apart, and no number of guesses says by how much


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message}; see --help")


def main() -> int:
    """Run the test; returns the exit status."""
    interrupts.install()
    streams.prepare()
    return run(sys.argv[1:])


def run(arguments: list[str]) -> int:
    """Do what is asked for on the command line, and return the exit status; errors are one line each."""
    return ending.guarded(lambda: _run(_options(arguments)))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m fedapt_secure.privacy_test", description=__doc__, allow_abbrev=False)
    parser.add_argument("--epsilon", type=float, default=8.0, help="ε that is planned for (8)")
    parser.add_argument("--delta", type=float, default=1e-5, help="δ (0.00001)")
    parser.add_argument("--canaries", type=int, default=30_000, help="how many games are played (30000)")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of one step each (60)")
    parser.add_argument("--sample-rate", type=float, default=0.5, help="q of Poisson sampling (0.5)")
    parser.add_argument("--unit", choices=(IMAGE, PERSON), default=IMAGE, help="what a canary is (image)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of each bound (0.95)")
    parser.add_argument("--seed", type=int, help="repeats who is there; noise and sampling never repeat")
    parser.add_argument("--short", action="store_true", help="check noise, clipping and sampling instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    rules = {
        f"--epsilon must be a positive number, at most {_MOST_EPSILON:g}": 0
        < options.epsilon
        <= _MOST_EPSILON,
        f"--canaries must lie between {_FEWEST_CANARIES} and {_MOST_CANARIES}": (
            _FEWEST_CANARIES <= options.canaries <= _MOST_CANARIES
        ),
        f"--rounds must lie between 1 and {_MOST_ROUNDS}": 1 <= options.rounds <= _MOST_ROUNDS,
        "--confidence must lie between 0.5 and 1": 0.5 < options.confidence < 1,
        "--sample-rate must lie above 0, and at most be 1": 0 < options.sample_rate <= 1,
        "--seed must not be negative": options.seed is None or options.seed >= 0,
    }
    for rule, holds in rules.items():
        if not holds:
            raise InvalidInput(rule)


def _run(options: argparse.Namespace) -> int:
    from fedapt_secure.privacy_test.institution import use_one_thread  # noqa: PLC0415 - torch, seconds
    from fedapt_secure.privacy_test.progress_bar import RoundsBar  # noqa: PLC0415

    use_one_thread()
    with RoundsBar(wanted=not options.json) as bar:
        return _short(options, bar) if options.short else _long(options, bar)


def _short(options: argparse.Namespace, bar: "RoundsBar") -> int:
    from fedapt_secure.privacy_test import mechanism_check, reporting  # noqa: PLC0415 - torch, seconds

    findings = mechanism_check.check_mechanism(options.unit, bar)
    bar.end()
    if options.json:
        reporting.report_json(reporting.findings_fields(findings))
    else:
        reporting.report_findings(findings)
    return ExitStatus.DONE if all(one.passed for one in findings) else ExitStatus.FAILED


def _long(options: argparse.Namespace, bar: "RoundsBar") -> int:
    from fedapt_secure.privacy_test import bounds, game, reporting  # noqa: PLC0415 - torch, seconds

    plan = game.planned(options.epsilon, options.delta, options.rounds, options.sample_rate, options.unit)
    played = game.play(plan, options.canaries, game.coins(options.seed), bar)
    bar.end()
    steps = bounds.Steps(plan.noise_multiplier, plan.sample_rate, plan.max_steps, played.claim, plan.delta)
    exact = bounds.exact(played.scores, played.present, steps, options.confidence)
    one_run = bounds.one_run(played.scores, played.present, steps, options.confidence)
    result = reporting.Result(plan, played.claim, exact, one_run, options.confidence)
    if options.json:
        reporting.report_json(reporting.result_fields(result))
    else:
        reporting.report_result(result)
    return ExitStatus.FAILED if result.refuted else ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
