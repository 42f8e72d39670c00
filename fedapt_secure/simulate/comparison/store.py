"""The folder of a comparison: finished runs that are taken over, and half-finished ones that are not.

A run is carried out under a name of its own and gets its final name when it is complete, so a folder with
that name is a finished run, whenever the comparison was killed. Of a finished run stays what an auditor may
have: settings, summary, roster and the signed logs. Keys, ledgers, images and models go.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import make_private_folder
from fedapt_secure.config.locking import locked
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.simulate.comparison.cases import Case
from fedapt_secure.simulate.results.summary import Summary
from fedapt_secure.simulate.setup.planning import method_choices
from fedapt_secure.simulate.setup.run_folder import RunFolder

_LOCK: Final = "comparison.lock"
_UNFINISHED: Final = ".unfinished"
_ELSEWHERE: Final = frozenset({"out", "cache", "device", "precision", "clients", "institutions_per_domain"})
"""Where and on what a run was made; and what is said otherwise in its settings, and checked by itself."""


class Store:
    """The runs of one comparison, on disk.

    Args:
        out: The comparison's folder, made where missing.

    Raises:
        InvalidInput: If it cannot be made, or holds something else.
    """

    def __init__(self, out: Path) -> None:
        self.path = out
        try:
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()) and not (out / _LOCK).exists():
                raise InvalidInput(f"{out} is not empty and holds no comparison: choose another with --out")
            self._runs.mkdir(exist_ok=True)
        except OSError as error:
            raise system_error(f"cannot make the folder {out}", error) from None

    @property
    def _runs(self) -> Path:
        return self.path / "runs"

    @property
    def cache(self) -> Path:
        """Features of all images, where no other place is asked for; as sensitive as the images."""
        return self.path / "cache"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the folder for this process, and clear away what an earlier one left half done.

        Raises:
            InvalidInput: If another process works on it.
        """
        with locked(self.path / _LOCK, wait=False):
            self._clear()
            yield
            self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._dealt, ignore_errors=True)
        for left in self._runs.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(left)

    @property
    def _dealt(self) -> Path:
        return self.path / "dealt"

    def new_split(self) -> Path:
        """Return an empty folder for the images of one split, in place of the one before."""
        shutil.rmtree(self._dealt, ignore_errors=True)
        return make_private_folder(self._dealt)

    def finished(self, case: Case) -> Summary | None:
        """Return the summary of a run that was finished earlier; ``None`` where there is none.

        Raises:
            InvalidInput: If it was run with other settings, or its files cannot be read.
        """
        folder = RunFolder(self._runs / case.name)
        if not folder.path.exists():
            return None
        before = build(SimulateSettings, read_yaml(folder.config), source=str(folder.config))
        for name, value in (case.settings.model_dump() | method_choices(case.settings)).items():
            # What is left open, the run has decided: from the same data and model in the same way.
            if name not in _ELSEWHERE and value is not None and getattr(before, name) != value:
                raise _other_settings(folder.path, name, getattr(before, name), value)
        summary = _read(folder.summary)
        self._check_clients(case.settings, folder.path, before, summary)
        return summary

    @staticmethod
    def _check_clients(now: SimulateSettings, path: Path, before: SimulateSettings, summary: Summary) -> None:
        asked = now.clients
        if now.institutions_per_domain is not None:
            asked = now.institutions_per_domain * len(summary["accuracy"]["zero_shot"]["per_domain"])
        if asked is not None and asked != before.clients:
            raise _other_settings(path, "clients", before.clients, asked)

    def begin(self, case: Case) -> Path:
        """Return where a run is to be carried out."""
        self.abandon(case)
        return self._under_way(case)

    def complete(self, case: Case) -> Path:
        """Let a run that has its summary count as finished, with what stays of it; return its folder."""
        folder = RunFolder(self._under_way(case))
        shutil.rmtree(folder.path / "parties")
        folder.model.unlink(missing_ok=True)
        return folder.path.rename(self._runs / case.name)

    def _under_way(self, case: Case) -> Path:
        return self._runs / f"{case.name}{_UNFINISHED}"

    def abandon(self, case: Case) -> None:
        """Remove what there is of a run that was not finished."""
        shutil.rmtree(self._under_way(case), ignore_errors=True)


def _read(path: Path) -> Summary:
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise InvalidInput(f"cannot read {path}: remove the folder {path.parent} to run it again") from None
    return fields


def _other_settings(path: Path, name: str, before: object, now: object) -> InvalidInput:
    return InvalidInput(
        f"{path} was run with {name} {before}, and {now} is asked for now: choose another --out, or remove"
        " that folder to run it again"
    )
