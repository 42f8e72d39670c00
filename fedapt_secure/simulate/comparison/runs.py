"""Carries out the simulations of a comparison one after the other, each as `simulate` does, in one process.

The model is loaded once, the images of a split are dealt and encoded once, and σ is planned once for equal
budgets. Everything else is done anew in each run: keys, certificates, ledgers, logs, sockets, masks, noise.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from fedapt_crypto.errors import FedaptError, Unavailable, system_error
from fedapt_crypto.sharing import sharing
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.clip.backbone import choose_precision, load_backbone
from fedapt_secure.learning.clip.device import resolve_device
from fedapt_secure.learning.data.dealing import DealtDataset
from fedapt_secure.log.line import LogEntry
from fedapt_secure.simulate.comparison.cases import Case, Cases
from fedapt_secure.simulate.comparison.store import Store
from fedapt_secure.simulate.engines.choosing import open_engine
from fedapt_secure.simulate.results.summary import Summary, summarise
from fedapt_secure.simulate.running.run import carry_out
from fedapt_secure.simulate.running.session_run import EncodingProgress
from fedapt_secure.simulate.setup.federation import deal, prepare


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        case: Which.
        summary: What came out; ``None`` where it failed.
        failure: Why it failed, in one line.
        taken_over: Whether it was finished by an earlier command.
    """

    case: Case
    summary: Summary | None
    failure: str | None = None
    taken_over: bool = False


class Listener(Protocol):
    """Told how a comparison comes along."""

    def begun(self, case: Case) -> None:
        """A run begins."""

    def watch(self, party: str, entry: LogEntry) -> None:
        """A party of the run has logged something."""

    def encoding(self, institution: str, done: int, total: int) -> None:
        """Images are encoded, ``done`` of ``total`` at an institution; called from threads."""

    def ended(self, outcome: Outcome) -> None:
        """A run is over, or was taken over."""


def carry_out_all(cases: Cases, store: Store, listener: Listener, cache: Path | None = None) -> list[Outcome]:
    """Run what is not finished yet; one that fails does not keep the others from being run.

    Args:
        cases: What to run.
        store: Where; it must be in use by this process.
        listener: Told of everything.
        cache: Folder of lasting features; by default the store's.

    Returns:
        An outcome for each run, in order.

    Raises:
        InvalidInput: If a finished run was made with other settings (then nothing has been run), or the
            model or the images cannot be used.
    """
    # Institutions train in parallel threads; one torch thread each keeps them off each other's cores.
    torch.set_num_threads(1)
    before = {case.name: summary for case in cases.runs if (summary := store.finished(case)) is not None}
    if len(before) < len(cases.runs):
        _check_model(cases.runs[0].settings)
    splits = _Splits(store)
    outcomes = []
    for case in cases.runs:
        if case.name in before:
            outcome = Outcome(case, before[case.name], taken_over=True)
        else:
            listener.begun(case)
            outcome = _attempt(case, store, splits.of(case), listener, cache or store.cache)
        listener.ended(outcome)
        outcomes.append(outcome)
    return outcomes


def _check_model(settings: SimulateSettings) -> None:
    """Load the model, which stays loaded: a mistake here is no single run's."""
    device = resolve_device(settings.device)
    load_backbone(
        settings.model,
        settings.pretrained,
        device,
        choose_precision(settings.precision, device, settings.model),
        settings.activation,
    )


class _Splits:
    """The images of one split, dealt once for all runs on it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._present: tuple[tuple[int, str | None], DealtDataset] | None = None

    def of(self, case: Case) -> DealtDataset:
        split = case.settings.seed, case.settings.unseen_domain
        if self._present is None or self._present[0] != split:
            self._present = None  # what it says is gone from here on
            folder = self._store.new_split()
            plain = case.settings.model_copy(update={"template": None})  # each run has its own prompt
            self._present = split, deal(plain, lambda name: folder / name)
        return self._present[1]


def _attempt(case: Case, store: Store, dealt: DealtDataset, listener: Listener, cache: Path) -> Outcome:
    try:
        summary = _run(case, store.begin(case), dealt, listener, cache)
        store.complete(case)
    except Unavailable:
        raise  # such as a full disk, on which every further run would fail
    except FedaptError as error:
        return Outcome(case, None, failure=" ".join(str(error).split()))
    except OSError as error:
        found = system_error(str(error.filename or store.path), error)
        if isinstance(found, Unavailable):
            raise found from None
        return Outcome(case, None, failure=str(found))
    finally:
        store.abandon(case)
    return Outcome(case, summary)


def _run(case: Case, out: Path, dealt: DealtDataset, listener: Listener, cache: Path) -> Summary:
    started = time.monotonic()
    settings = case.settings.model_copy(update={"out": out, "cache": cache})
    encoding: EncodingProgress = listener.encoding
    with sharing(), open_engine(settings) as engine:
        federation = prepare(settings, dealt, engine)
        carry_out(federation, listener.watch, encoding)
    return summarise(federation, time.monotonic() - started)
