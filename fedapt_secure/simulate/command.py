"""The work of ``fedapt-secure simulate``: prepare, run, summarise, show."""

import time
from functools import partial

import torch
from rich.console import Console
from rich.markup import escape

from fedapt_crypto.secagg import registry
from fedapt_crypto.sharing import sharing
from fedapt_secure.config.simulate import LOCAL, RAY, SimulateSettings
from fedapt_secure.learning.data.dealing import MAX_DIGIT_CLIENTS
from fedapt_secure.protocol.hiding import hidden
from fedapt_secure.protocol.methods import ZERO_SHOT, method_facts
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.simulate.engines.choosing import open_engine
from fedapt_secure.simulate.engines.engine import Engine
from fedapt_secure.simulate.results.balance_table import print_balance
from fedapt_secure.simulate.results.display import ProgressDisplay, print_result
from fedapt_secure.simulate.results.run_report import write_report
from fedapt_secure.simulate.results.summary import Summary, summarise, write_pictures
from fedapt_secure.simulate.running.run import carry_out
from fedapt_secure.simulate.setup.federation import Federation, check, prepare


def simulate(settings: SimulateSettings, console: Console) -> tuple[Federation, Summary]:
    """Run a whole federation, show what came out, and return both.

    Raises:
        InvalidInput: If the settings cannot be carried out.
        RunFailed: If the run could not be finished.
    """
    started = time.monotonic()
    # Institutions train in parallel threads; one torch thread each keeps them off each other's cores.
    torch.set_num_threads(1)
    check(settings)
    with sharing(), open_engine(settings, partial(_tell, console)) as engine:
        return _simulate(settings, console, started, engine)


def _tell(console: Console, sentence: str) -> None:
    console.print(f"[yellow]{escape(sentence)}[/]", highlight=False)


def _simulate(
    settings: SimulateSettings, console: Console, started: float, engine: Engine
) -> tuple[Federation, Summary]:
    with console.status("loading the model and dealing the images"):
        federation = prepare(settings, engine=engine)
    print_balance(console, federation.dataset)
    console.print(_headline(settings, len(federation.institutions)), highlight=False)
    if method_facts(settings.method).federated:
        drafted = SessionConfiguration.drafted(federation.plan, federation.roster)
        console.print(f"each sum {hidden(drafted).said}", highlight=False)
    if federation.dataset.synthetic:
        console.print(f"[yellow]{SYNTHETIC_STATEMENT}[/]", highlight=False)
    if settings.unsupervised:
        console.print(f"without labels: {federation.plan.supervision}", highlight=False)
    if settings.secure_aggregation == registry.CKKS:
        console.print(f"[yellow]{CKKS_STATEMENT}[/]", highlight=False)
    if settings.insecure_deterministic_noise:
        console.print(f"[bold white on red]{INSECURE_NOISE_STATEMENT}[/]", highlight=False)
    with ProgressDisplay(console, federation) as display:
        carry_out(federation, display.watch, display.encoding)
    summary = summarise(federation, time.monotonic() - started)
    write_pictures(federation, summary)
    report = write_report(federation, summary)
    print_result(console, federation, summary)
    console.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)
    return federation, summary


_PROTECTION = {
    "masking": "masked updates",
    "ckks": "CKKS-encrypted updates",
    "none": "updates in the clear",
}
_PLACES = {LOCAL: "on loopback", RAY: "between Ray actors"}
INSECURE_NOISE_STATEMENT = (
    "NOT PRIVATE: --insecure-deterministic-noise lets the seed decide the noise, and who knows the seed can"
    " remove it. No ε below protects anybody."
)
SYNTHETIC_STATEMENT = (
    f"Synthetic: there are digits for {MAX_DIGIT_CLIENTS} institutions at most, so each draws its own from"
    " all of them, in a hand of its own, and one scan lies at many. Every ε below is for cost only: it"
    " protects no scan; accuracies say nothing about real data."
)
CKKS_STATEMENT = (
    "CKKS tolerates no collusion: every institution holds the one key, so a coordinator in league with any"
    " of them reads every update. It is for consortia that trust each other and not the host."
)


def _headline(settings: SimulateSettings, institutions: int) -> str:
    privacy = "without differential privacy" if settings.no_dp else f"each under ε = {settings.epsilon:g}"
    model = settings.model if settings.pretrained is None else f"{settings.model} ({settings.pretrained})"
    if settings.insecure_deterministic_noise:
        privacy += " (NOT PRIVATE)"
    if settings.method == ZERO_SHOT:
        return f"{model} as it is, on {settings.dataset} of {institutions} institutions; nothing is trained"
    if not method_facts(settings.method).federated:
        return (
            f"{institutions} institutions tune {model} on {settings.dataset}, each for itself, {privacy};"
            " nothing is exchanged"
        )
    protection = _PROTECTION[settings.secure_aggregation]
    return (
        f"{institutions} institutions tune {model} on {settings.dataset}, {privacy}, {protection},"
        f" mutual TLS 1.3 {_PLACES[settings.engine]}"
    )
