"""Examine an institution's folder and machine: what a session needs, and what to do where it is not there."""

import asyncio
import hashlib
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from fedapt_client.books.in_force import policy_in_force
from fedapt_client.membership.connecting import Place, Unreachable
from fedapt_client.membership.desk import connected, diagnosis, greet, look
from fedapt_client.membership.enrolment import load_federation
from fedapt_client.membership.own_times import own_times
from fedapt_client.settings import SETTINGS_FILE, ClientSettings
from fedapt_client.settings import read_settings as read_client_settings
from fedapt_crypto.certificates import facts
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.private_files import PRIVATE_FOLDER_MODE, read_private
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.policy import POLICY_FILE
from fedapt_secure.config.reading import ReadingOptions
from fedapt_secure.learning.data.counting import TrainingCount, count_training, most_training
from fedapt_secure.learning.data.reading.copies import equal_files, equal_in_words
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.learning.data.reading.records import UNLABELLED, Record, read_unlabelled
from fedapt_secure.learning.data.reading.unused import unused_files, usage
from fedapt_secure.protocol.clocks import Times, span
from fedapt_secure.protocol.transport import client_context

OLDEST_PYTHON: Final = (3, 11)
LEAST_FREE_BYTES: Final = 1 << 30
COMFORTABLE_FREE_BYTES: Final = 5 << 30
MOST_FILES_READ: Final = 1000
"""To count training images, of which a policy asks for some dozens."""
_HARMLESS: Final = frozenset({POLICY_FILE, "README.md", "data.csv"})
"""What people put into the folder and may be read by others."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was looked at.
        state: ``ok``; ``note``: works, but read it; ``wrong``: a session would fail.
        what: What was found.
        advice: What to do; empty where nothing is to be done.
    """

    check: str
    state: Literal["ok", "note", "wrong"]
    what: str
    advice: str = ""


def examine(folder: PartyFolder, model: str, pretrained: str | None) -> list[Finding]:
    """Run all checks; none of them changes anything, and one that fails does not stop the others.

    Args:
        folder: The institution's folder.
        model: open_clip model whose weights are looked for.
        pretrained: Its weights, as in a session's plan.
    """
    settings: list[ClientSettings] = []

    def read_settings() -> Iterator[Finding]:
        settings.append(read_client_settings(folder.path))
        yield Finding("settings", "ok", str(folder.path / SETTINGS_FILE))

    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("settings", read_settings),
        ("permissions", lambda: _permissions(folder)),
        ("keys", lambda: _keys(folder)),
        ("certificate", lambda: _certificate(folder, datetime.now(UTC))),
        ("roster", lambda: _roster(folder)),
        ("policy", lambda: _policy(folder, settings)),
        ("disk", lambda: _disk(folder.path)),
    ]
    found = [finding for name, check in checks for finding in _guarded(name, check)]
    if settings:
        found += _guarded("data", lambda: _data(settings[0].data, settings[0].reading))
        found += _minima(folder, settings[0])
        found += _guarded("coordinator", lambda: _network(folder, settings[0]))
    wish = (settings[0].device, settings[0].precision) if settings else ("auto", "auto")
    found += _guarded("model", lambda: _model(model, pretrained, *wish))
    return found


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check())
    except FedaptError as error:
        found.append(Finding(name, "wrong", str(error)))
    except OSError as error:
        found.append(Finding(name, "wrong", f"{error.filename or name}: {error.strerror}"))
    return found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding("python", "ok", version)
    else:
        yield Finding("python", "wrong", version, "install Python 3.11 or newer")


def _permissions(folder: PartyFolder) -> Iterator[Finding]:
    mode = stat.S_IMODE(folder.path.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            "permissions",
            "wrong",
            f"{folder.path} can be entered by others ({mode:o})",
            f"run 'chmod {PRIVATE_FOLDER_MODE:o} {folder.path}'",
        )
    open_files = [
        path
        for path in sorted(folder.path.iterdir())
        if path.is_file() and path.stat().st_mode & 0o077 and path.name not in _HARMLESS
    ]
    for path in open_files:
        yield Finding("permissions", "wrong", f"{path} can be read by others", f"run 'chmod 600 {path}'")
    if not mode & 0o077 and not open_files:
        yield Finding("permissions", "ok", f"{folder.path} and what is in it are for its owner only")


def _keys(folder: PartyFolder) -> Iterator[Finding]:
    federation = load_federation(folder)
    folder.identity()
    folder.sealing_key()
    client_context(folder)
    how = "under a passphrase" if folder.protected else "without a passphrase"
    yield Finding("keys", "ok", f"of {federation.name!r} in {federation.federation!r}, {how}")


def _certificate(folder: PartyFolder, now: datetime) -> Iterator[Finding]:
    about = folder.certificate()
    until = f"{about.not_after:%Y-%m-%d}"
    if about.expired(now):
        advice = (
            "if the line 'clock' is ok, run 'fedapt-secure client csr' and send the file to the coordinator's"
            " operator"
        )
        yield Finding("certificate", "wrong", f"expired on {until}, by this machine's clock", advice)
    elif now < about.not_before:
        what = f"valid only from {about.not_before:%Y-%m-%d %H:%M} UTC, by this machine's clock"
        advice = (
            "the line 'clock' says whether that is wrong; if not, 'fedapt-secure client csr' gets another"
        )
        yield Finding("certificate", "wrong", what, advice)
    elif about.renewal_due(now):
        yield Finding("certificate", "note", f"valid until {until}", "run 'fedapt-secure client renew'")
    else:
        yield Finding("certificate", "ok", f"valid until {until}")
    authority = facts(read_private(folder.authority_file))
    if authority.expired(now):
        advice = "the coordinator's operator founds a new one"
        yield Finding("authority", "wrong", "the federation's authority has expired", advice)


def _roster(folder: PartyFolder) -> Iterator[Finding]:
    if not folder.roster_file.exists():
        advice = "run 'fedapt-secure client roster show', compare, then 'fedapt-secure client roster approve'"
        yield Finding("roster", "wrong", "none is approved", advice)
        return
    roster = folder.roster()
    yield Finding("roster", "ok", f"approved, {len(roster.members)} institutions")


def _policy(folder: PartyFolder, read: Sequence[ClientSettings]) -> Iterator[Finding]:
    if not read:
        yield Finding("policy", "wrong", f"which one holds is not known without {SETTINGS_FILE}")
        return
    in_force = policy_in_force(folder.path, read[0])
    if in_force.from_file:
        policy = in_force.policy
        share = policy.allowance.session_epsilon
        detail = (
            f"{in_force.file}: epsilon {policy.max_epsilon:g} at most over all sessions, {share:g} in one"
        )
        yield Finding("policy", "ok", detail)
    else:
        advice = "write what this institution allows into it"
        yield Finding("policy", "wrong", f"there is no {in_force.file}", advice)


def _disk(path: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(path).free
    what = f"{free / 2**30:.1f} GiB free"
    if free >= COMFORTABLE_FREE_BYTES:
        yield Finding("disk", "ok", what)
    elif free >= LEAST_FREE_BYTES:
        yield Finding("disk", "note", what, "features of many images may need more")
    else:
        yield Finding("disk", "wrong", what, f"free at least {LEAST_FREE_BYTES >> 30} GiB where {path} lies")


def _data(source: Path, reading: ReadingOptions) -> Iterator[Finding]:
    records = read_unlabelled(source, None, reading)  # it is the session that says whether labels are needed
    missing = next((record.path for record in records.records if not record.path.is_file()), None)
    if missing is not None:
        yield Finding(
            "data", "wrong", f"{missing} is named in {source} and not there", "correct the manifest"
        )
    else:
        count, classes = len(records.records), len(records.class_names)
        without = sum(record.label == UNLABELLED for record in records.records)
        equal = equal_files(record.path for record in records.records)
        copies = f"; {equal_in_words(equal)}" if equal else ""
        used = usage(source, records, unused_files(source, records, labelled=False), ())
        copies += f"; {used.in_words()}" if used.unused else ""
        if not without:
            yield Finding("data", "ok", f"{source}: {count} images of {classes} classes{copies}")
            return
        yield Finding(
            "data",
            "note",
            f"{source}: {count} images, {without} of them without a label{copies}",
            "only a session without labels (unsupervised) uses these; for others put images into class"
            " folders, or fill the manifest's column label",
        )


def _minima(folder: PartyFolder, settings: ClientSettings) -> list[Finding]:
    """Hold the images against the policy's minima; what cannot be read is named by the checks of these."""
    try:
        policy = policy_in_force(folder.path, settings).policy
        people = PatientKey.to_count() if settings.subjects is not None else None
        there = _counted(read_unlabelled(settings.data, None, settings.reading, people).records)
    except FedaptError:
        return []
    asked = f"{policy.minimum_records:,} training images"
    what = f"{there.images:,} training images"
    if there.persons is not None:
        what += f" of {there.persons:,} persons"
        asked += f" and {policy.minimum_persons:,} persons"
    lacking = [
        rule
        for rule, count, least in (
            ("minimum_records", there.images, policy.minimum_records),
            ("minimum_persons", there.persons, policy.minimum_persons),
        )
        if count is not None and count < least
    ]
    said = f"at most {what}; the policy asks for {asked}"
    if not lacking:
        return [Finding("minima", "ok", said)]
    advice = f"sessions would be refused: add images, or have {' and '.join(lacking)} in policy.yaml changed"
    return [Finding("minima", "wrong", said, advice)]


def _counted(records: Sequence[Record]) -> TrainingCount:
    """Count by files where these are few; where they are many, how many are for tests does not matter."""
    return count_training(records) if len(records) <= MOST_FILES_READ else most_training(records)


def _network(folder: PartyFolder, settings: ClientSettings) -> Iterator[Finding]:
    authority = read_private(folder.authority_file)
    if settings.proxy is not None:
        yield Finding("proxy", "ok", "connections go through the proxy in client.yaml")
    enrolment = Place(settings.host, settings.enrolment_port, settings.proxy)
    for title, port in (("enrolment port", settings.enrolment_port), ("rounds port", settings.port)):
        place = Place(settings.host, port, settings.proxy)
        looked = asyncio.run(look(place, authority))
        if looked.presented is not None and looked.certificate is None:
            seen = hashlib.sha256(looked.presented).hexdigest()
            yield Finding(
                title,
                "wrong",
                f"{place}: the certificate there was not issued by this federation; its SHA-256 is {seen}",
                "something on the way intercepts TLS (a proxy, firewall or virus scanner), or the address is"
                " wrong: have this host and port exempted from inspection",
            )
            continue
        times = own_times(folder, looked.theirs)
        try:
            if port == settings.enrolment_port:
                asyncio.run(greet(folder, place))
            else:
                asyncio.run(_reach(place, folder, enrolment))
            yield Finding(title, "ok", f"{place}: TLS and certificates are right")
        except FedaptError as error:
            where = "" if isinstance(error, Unreachable) else f"{place}: "
            yield Finding(title, "wrong", f"{where}{error}")
        if times.theirs is not None:
            yield _clock(times)


def _clock(times: Times) -> Finding:
    assert times.theirs is not None
    apart = abs(times.theirs - times.now)
    what = f"{span(apart)} from the coordinator's"
    if apart <= timedelta(seconds=60):
        return Finding("clock", "ok", what)
    advice = times.advice()
    if advice is None:
        return Finding("clock", "note", what, "synchronise this machine's clock (NTP)")
    return Finding("clock", "wrong", what, advice)


async def _reach(place: Place, folder: PartyFolder, enrolment: Place) -> None:
    try:
        async with connected(place, client_context(folder)):
            pass
    except Unreachable as error:
        raise Unreachable(await diagnosis(error.__cause__, place, folder, enrolment)) from None


def _model(model: str, pretrained: str | None, device: str, precision: str) -> Iterator[Finding]:
    try:
        from fedapt_secure.learning.clip.backbone import choose_precision, load_backbone  # noqa: PLC0415 - seconds
        from fedapt_secure.learning.clip.device import describe, resolve_device  # noqa: PLC0415
    except ImportError as error:
        advice = "install fedapt-secure with all its dependencies"
        yield Finding("model", "wrong", f"cannot import {error.name}", advice)
        return
    chosen = resolve_device(device)
    computing_in = choose_precision(precision, chosen, model)
    if chosen.type == "cuda":
        yield Finding("device", "ok", f"{describe(chosen)}, the frozen model in {computing_in}")
    elif device == "cpu":
        yield Finding("device", "ok", "the CPU, as client.yaml says")
    else:
        yield Finding("device", "note", "no GPU here", "training works on the CPU, slower")
    backbone = load_backbone(model, pretrained, chosen, computing_in)
    yield Finding(
        "model", "ok", f"{model}: all of it {backbone.model_hash[:16]} ({backbone.identity.activation})"
    )
