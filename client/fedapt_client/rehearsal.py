"""What a session would be here, before anything is spent: which images, how long, how much, if at all.

All of it is done as a session does it, by the same code, up to the place where the ledger would take note.
Features that are encoded stay in the cache, where the session finds them.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fedapt_client.books.approval import Approvals
from fedapt_client.books.books import Books
from fedapt_client.institution import Institution
from fedapt_client.narration import tell
from fedapt_client.settings import ClientSettings
from fedapt_client.training.answer_time import AnswerTime
from fedapt_client.training.encoding_watch import EncodingWatch, Progress
from fedapt_client.training.learner import Learner, people_of
from fedapt_client.training.space import bytes_of_session
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.roster import Roster
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.policy import MAX_UNUSED_RULE
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.data.reading.listing import LeftOut
from fedapt_secure.learning.data.reading.records import (
    RecordSet,
    read_records,
    read_unlabelled,
)
from fedapt_secure.learning.data.reading.unused import unused_files
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.learning.privacy.mechanism import MECHANISM_NAME
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.hiding import hidden
from fedapt_secure.protocol.message_sizes import round_bytes
from fedapt_secure.protocol.reasons import Reason, reason_of
from fedapt_secure.protocol.session import SessionConfiguration

SAMPLE: Final = 32
"""So many images are encoded anew to see how long one takes, whatever the cache holds."""
_SERIES: Final = (1.0, 2.0, 5.0)


@dataclass
class Rehearsal:
    """What was found.

    Attributes:
        reason: Why the session would be refused, as the coordinator would hear it; ``None`` if it would not.
        sentence: The same for this institution's own people.
        records: How many images the source has for the session.
        training, tests: How many images would be used for training and held out.
        unused: Every file that would not be used, and why.
        usage: How many these are of all, without copies and what systems leave; empty where all are used.
        duplicates: How many of these files are copies, and how many images look alike; stays at home.
        lacking: Classes of the session of which there is no image; that is allowed.
        encoding_s: How long encoding all images takes, once.
        answer_s: When a round's update would leave, after its start.
        session_s: How long this institution computes in the whole session.
        slow: Whether the plan's ``round_timeout_s`` does not hold a round of this institution.
        rounds: How many rounds it would be in.
        bytes_down, bytes_up: The most that comes and leaves in the whole session.
        disk_bytes: What cache, model, log and ledger take; free_bytes: what is free where they lie.
        said_of_sums: Whether the session's sums hide this institution's update.
        policy_source: The file that the policy is from, or that there is none.
        privacy: The plan as it would stand in ledger and log; ``None`` without differential privacy.
    """

    reason: Reason | None = None
    sentence: str = ""
    records: int = 0
    training: int = 0
    tests: int = 0
    unused: list[LeftOut] = field(default_factory=list)
    usage: str = ""
    duplicates: Duplicates = field(default_factory=Duplicates)
    lacking: tuple[str, ...] = ()
    encoding_s: float | None = None
    answer_s: float | None = None
    session_s: float | None = None
    slow: bool = False
    rounds: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    disk_bytes: int = 0
    free_bytes: int = 0
    said_of_sums: str = ""
    policy_source: str = ""
    privacy: dict[str, Any] | None = None

    def refused(self, error: FedaptError) -> None:
        """Take note of why the session would be refused, if nothing is known yet."""
        if self.reason is None:
            self.reason, self.sentence = reason_of(error), str(error)


class Rehearsing:
    """Rehearses a session in an institution's folder.

    Args:
        settings: The institution's settings. folder: Its folder. roster: Its approved roster.
        books: Its policy and ledger.
        progress: Told while images are encoded.
    """

    def __init__(
        self,
        settings: ClientSettings,
        folder: Path,
        roster: Roster,
        books: Books,
        progress: Progress | None = None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._roster = roster
        self._books = books
        self._progress = progress

    def rehearse(self, configuration: SessionConfiguration) -> Rehearsal:
        """Return what the session would be here; the first reason against it does not end the looking."""
        found = Rehearsal(rounds=len(configuration.own_rounds(self._settings.name)))
        down, up = round_bytes(configuration)
        found.bytes_down, found.bytes_up = found.rounds * down, found.rounds * up
        found.said_of_sums = hidden(configuration, self._settings.name).said
        try:
            found.policy_source = self._books.in_force.source
            self._books.read_policy_again()
            found.policy_source = self._books.in_force.source
            self._books.requirements.check(configuration, self._roster, self._settings.name)
        except FedaptError as error:
            found.refused(error)
        try:
            self._look(configuration, found)
        except FedaptError as error:
            found.refused(error)
        return found

    def _look(self, configuration: SessionConfiguration, found: Rehearsal) -> None:
        plan = configuration.plan
        records = self._records(configuration, found)
        learner = Learner(
            self._settings,
            self._folder,
            configuration,
            self._books.share(configuration.session),
            self._progress,
            self._books.ledger.patient_key,
        )
        found.unused = list(learner.unused)
        found.usage = learner.usage.in_words()
        found.duplicates = learner.duplicates
        found.training, found.tests = learner.split
        found.lacking = learner.lacking
        found.encoding_s = learner.time_of_encoding(SAMPLE) * len(records.records)
        found.disk_bytes = learner.cache_bytes + bytes_of_session(configuration)
        found.free_bytes = shutil.disk_usage(self._folder).free
        learner.usage.check(self._books.policy.max_unused, MAX_UNUSED_RULE)
        most_s = learner.check_possible()
        answer = AnswerTime(most_s, plan.round_timeout_s)
        fixed = plan.differential_privacy and self._settings.fixed_answer_time
        found.answer_s = answer.seconds if fixed else most_s
        found.session_s = found.rounds * found.answer_s
        found.slow = not answer.in_time
        found.privacy = self._books.judge(
            configuration,
            learner.privacy_plan,
            learner.declared_records,
            learner.images,
            learner.subjects,
        )

    def _records(self, configuration: SessionConfiguration, found: Rehearsal) -> RecordSet:
        plan, data = configuration.plan, self._settings.data
        source, labelled = data if data.is_absolute() else self._folder / data, plan.unsupervised is None
        read = read_records if labelled else read_unlabelled
        how = self._settings.reading, people_of(self._settings, self._books.ledger.patient_key)
        try:
            records = read(source, plan.class_names, *how)
        except FedaptError as error:
            found.refused(error)
            records = read(source, None, *how)  # what is there all the same; or the reason once more
        found.records = len(records.records)
        found.unused = list(unused_files(source, records, labelled=labelled))
        return records


def coarse_s(seconds: float | None) -> float:
    """Return a time for the coordinator, rounded up to 1, 2 or 5 times a power of ten; 0 where unknown.

    Exact times would count images.
    """
    if seconds is None:
        return 0.0
    power = 0.01
    while True:
        for one in _SERIES:
            if seconds <= one * power:
                return round(one * power, 2)
        power *= 10


def rehearse(institution: Institution, configuration: SessionConfiguration) -> Rehearsal:
    """Rehearse a session in an institution's folder, and write the one line about it."""
    rehearsing = Rehearsing(
        institution.settings,
        institution.folder.path,
        institution.folder.roster(),
        institution.books,
        institution.encoding,
    )
    found = rehearsing.rehearse(configuration)
    reason = None if found.reason is None else found.reason.value
    institution.write("rehearsed", {"configuration": configuration.hash.hex(), "reason": reason})
    if found.reason is not None:
        tell(institution.settings.name, "would_refuse", f"the session would be refused: {found.sentence}")
    return found


def rehearse_alone(
    folder: PartyFolder, settings: ClientSettings, configuration: SessionConfiguration, progress: Progress
) -> Rehearsal:
    """Rehearse a session where no client runs; its log is this command's meanwhile.

    Raises:
        InvalidInput: If the folder cannot be used, or a client is running in it.
    """
    books = Books(folder.path, settings, epsilon_of, MECHANISM_NAME)
    lost = settings.log_continues
    log = LogWriter(
        folder.path / settings.log,
        party=settings.name,
        role="institution",
        identity=folder.identity(),
        continues=LogHead.parse(lost) if lost is not None else None,
    )
    watch = EncodingWatch(settings.name, progress)
    try:
        return rehearse(
            Institution(settings, folder, books, log, Approvals(folder.path), watch), configuration
        )
    finally:
        log.close()


def answer_rehearsal(institution: Institution, configuration: SessionConfiguration) -> m.Rehearsed:
    """Rehearse a session that the coordinator asks about, and return a code and coarse times alone."""
    if not institution.settings.answer_rehearsals:
        return m.Rehearsed(configuration_hash=configuration.hash, reason=Reason.NOT_APPROVED.value)
    found = rehearse(institution, configuration)
    return m.Rehearsed(
        configuration_hash=configuration.hash,
        reason=None if found.reason is None else found.reason.value,
        encoding_s=coarse_s(found.encoding_s),
        round_s=coarse_s(found.answer_s),
    )
