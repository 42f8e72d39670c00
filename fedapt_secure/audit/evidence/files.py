"""What was handed to the auditor: which files belong to which log, and whose keys to check them against.

A path is a run folder of ``simulate`` (``logs/``, ``roster.json``, ``config.yaml``), a folder of logs, or one
log. The segments that rotation left beside a log are found by their names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_secure.config.party_folder import roster_from_json
from fedapt_secure.log.line import MAX_LINE_BYTES, LogEntry, SegmentHeader, parse_line, read_header
from fedapt_secure.log.reader import segments

SUFFIX: Final = ".jsonl"
MAX_ROSTER_BYTES: Final = 32 << 20
_ARCHIVED = re.compile(r"(.+)\.[0-9]{10,18}")
_LINES_TRIED: Final = 3
"""A file none of whose first lines is a log line is some other file, not a damaged log."""


@dataclass(frozen=True)
class LogFiles:
    """The files of one log, in order.

    Attributes:
        party: Whose log it says it is; the file's own name where its first line cannot be read.
        stem: The name of its files without numbers and suffix.
        header: What its first line says, ``None`` where that says nothing of the kind.
        files: The segments.
    """

    party: str
    stem: str
    header: SegmentHeader | None
    files: tuple[Path, ...]

    @property
    def is_coordinator(self) -> bool:
        """Whether this is the coordinator's log."""
        return self.party == COORDINATOR


@dataclass(frozen=True)
class Evidence:
    """Everything that was given.

    Attributes:
        logs: All logs, the coordinator's first, then by name.
        roster: The roster to check against, if there is one.
        trusted: Whether that roster was given with ``--trust``, and did not just lie beside the logs.
        simulated: Whether the logs lie in a run folder of ``simulate``: one operator held all keys.
    """

    logs: tuple[LogFiles, ...]
    roster: Roster | None = None
    trusted: bool = False
    simulated: bool = False

    def key_of(self, party: str) -> bytes | None:
        """Return a party's identity key: the roster's, else what the party's own log says, else ``None``."""
        if self.roster is not None:
            try:
                return self.roster.identity_key(party)
            except InvalidInput:
                return None
        for log in self.logs:
            if log.header is not None and log.party == party:
                return log.header.identity
        return None

    def identity_key(self, party: str) -> bytes:
        """Return what `key_of` does; raises `InvalidInput` where there is none."""
        key = self.key_of(party)
        if key is None:
            raise InvalidInput(f"the identity of {party} is not known")
        return key

    @property
    def coordinator_key(self) -> bytes:
        """The coordinator's identity key; raises `InvalidInput` where it is not known."""
        return self.identity_key(COORDINATOR)


def read_roster(path: Path) -> Roster:
    """Read a roster file.

    Raises:
        InvalidInput: If it cannot be read or is not a roster.
    """
    try:
        if path.stat().st_size > MAX_ROSTER_BYTES:
            raise InvalidInput(f"{path} is too large for a roster")
        data = path.read_bytes()
    except OSError as error:
        raise system_error(f"cannot read the roster {path}", error) from None
    return roster_from_json(data, path)


def gather(paths: Sequence[Path], trust: Path | None = None) -> Evidence:
    """Find all logs behind some paths.

    Args:
        paths: Run folders, folders of logs, or logs.
        trust: A roster whose identities the auditor has reason to believe.

    Raises:
        InvalidInput: If a path holds no log or cannot be read, or the roster cannot.
    """
    if not paths:
        raise InvalidInput("nothing to audit: name a run folder or one or more logs")
    logs: dict[Path, tuple[Path, ...]] = {}
    folders: dict[Path, None] = {}
    try:
        for path in paths:
            found, folder = _files_at(path)
            folders |= {} if folder is None else {folder: None}
            for file in found:
                current = file.with_name(_stem(file) + file.suffix)
                logs[current] = tuple(segments(current)) or (file,)
    except OSError as error:
        raise system_error(f"cannot read {error.filename}", error) from None
    roster = read_roster(trust) if trust is not None else None
    if trust is None:
        beside = [folder / "roster.json" for folder in folders]
        rosters = {one.hash: one for one in (read_roster(path) for path in beside if path.exists())}
        if len(rosters) == 1:
            (roster,) = rosters.values()
    found_logs = [_log(current, files) for current, files in logs.items()]
    return Evidence(
        logs=tuple(sorted(found_logs, key=lambda log: (not log.is_coordinator, log.party))),
        roster=roster,
        trusted=trust is not None,
        simulated=any((folder / "config.yaml").exists() for folder in folders),
    )


def _files_at(path: Path) -> tuple[list[Path], Path | None]:
    """Return the log files that a path stands for, and the run folder they lie in, if they do."""
    if path.is_dir():
        folder = path.resolve()
        folder = folder / "logs" if (folder / "logs").is_dir() else folder
        found = sorted(one for one in folder.glob(f"*{SUFFIX}") if one.is_file())
        if not found:
            raise InvalidInput(f"there is no log in {path}: expected NAME{SUFFIX} or logs/NAME{SUFFIX}")
        return found, _run_folder(folder)
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file or folder")
    path = path.resolve()
    return [path], _run_folder(path.parent)


def _run_folder(folder: Path) -> Path | None:
    """Return the run folder that a folder of logs belongs to, if it looks like one."""
    above = folder.parent if folder.name == "logs" else folder
    return above if (above / "config.yaml").exists() or (above / "roster.json").exists() else None


def _stem(path: Path) -> str:
    archived = _ARCHIVED.fullmatch(path.stem)
    return archived[1] if archived else path.stem


def _log(current: Path, files: tuple[Path, ...]) -> LogFiles:
    header = _header(files[0])
    return LogFiles(header.party if header else current.stem, current.stem, header, files)


def _header(path: Path) -> SegmentHeader | None:
    """Return what the first line of a file says, ``None`` where it is damaged.

    Raises:
        InvalidInput: If the file cannot be read, or does not look like a log at all.
    """
    entries: list[LogEntry | None] = []
    try:
        with path.open("rb") as stream:
            for _ in range(_LINES_TRIED):
                raw = stream.readline(MAX_LINE_BYTES + 2).removesuffix(b"\n")
                try:
                    entries.append(parse_line(raw, str(path)))
                except InvalidInput:
                    entries.append(None)
    except OSError as error:
        raise system_error(f"cannot read {path}", error) from None
    if not any(entries):
        raise InvalidInput(f"{path} is not a log of this program: none of its first lines is a log line")
    first = entries[0]
    try:
        return None if first is None else read_header(first, str(path))
    except InvalidInput:
        return None
