"""A session that has ended, as one page in the coordinator's folder: for its people, on screen and paper.

From the coordinator's own log and records alone: no accuracy and no ε is on it, because none reaches it.
"""

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.private_files import make_private_folder, write_atomically
from fedapt_secure import __version__
from fedapt_secure.audit.evidence.files import gather
from fedapt_secure.audit.findings import Kind
from fedapt_secure.audit.judgement import Judgement, judge
from fedapt_secure.audit.report import wording
from fedapt_secure.config.paper_choices import steps_said
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.pages.environment import page_environment, strips_of
from fedapt_secure.protocol.hiding import hidden
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.reasons import meaning_of
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.archive.store import SessionStore
from fedapt_server.page.session_story import SessionStory
from fedapt_server.settings import ServerSettings
from fedapt_server.standing import report_path

MOST_CLASSES: Final = 20
MOST_WITHOUT_SUM: Final = 40
TRIES: Final = 3
AGAIN_AFTER_S: Final = 0.2


def write_session_report(folder: PartyFolder, settings: ServerSettings, session: str) -> Path:
    """Write ``reports/SESSION.html``; return where.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        session: Which session, hexadecimal; its end is in the log.

    Raises:
        InvalidInput: If a file cannot be read or written.
    """
    path = folder.path / settings.log
    story = SessionStory(path, session)
    story.read_on()
    configuration = _configuration(folder.path, session)
    judgement = _judgement(folder, path)
    grid = story.participation()
    text = (
        page_environment(Path(__file__).parent)
        .get_template("session_report.html.j2")
        .render(
            federation=settings.federation,
            session=session,
            story=story,
            began=_minute(story.began),
            ended=_minute(story.ended),
            asked=asked(story, configuration),
            judgement=judgement,
            mark=wording.MARK,
            sums=None if configuration is None else hidden(configuration).said,
            institutions=institutions(story, configuration),
            grid=grid,
            strips=strips_of(grid.columns),
            time=sorted(story.seconds.items(), key=lambda one: -one[1]),
            without_sum=story.without_sum[:MOST_WITHOUT_SUM],
            for_coordinator=configuration is not None and configuration.plan.bundle_for_coordinator,
            log=settings.log.name,
            made=_minute(datetime.now(UTC)),
            version=__version__,
        )
    )
    target = report_path(folder.path, session)
    make_private_folder(target.parent)
    write_atomically(target, text.encode())
    return target


def asked(story: SessionStory, configuration: SessionConfiguration | None) -> list[tuple[str, str]]:
    """Return what the session was to be, in words.

    Args:
        story: The session, from the log.
        configuration: The session, from the records; ``None`` where they do not have it any more.
    """
    if story.started is None or configuration is None:
        return []
    plan = configuration.plan
    classes = plan.class_names
    more = ", ..." if len(classes) > MOST_CLASSES else ""
    steps = steps_said(plan.local_steps, plan.batch_size, plan.local_epochs)
    private = "differential privacy: what each spends, at most, is in its policy and its own log"
    return [
        *([("Purpose", plan.purpose)] if plan.purpose else []),
        ("Method", f"{method_facts(plan.method).title}, guided by {plan.supervision}"),
        ("Model", plan.model),
        ("Classes", f"{len(classes)}: {', '.join(classes[:MOST_CLASSES])}{more}"),
        ("Training", f"{plan.rounds} rounds of {steps}"),
        ("Privacy", private if plan.differential_privacy else "none"),
        ("Secure aggregation", plan.secure_aggregation),
        ("A round needs", f"{configuration.threshold} of {len(configuration.roster.members)} institutions"),
    ]


def institutions(story: SessionStory, configuration: SessionConfiguration | None) -> list[dict[str, Any]]:
    """Return by institution in how many sums it is, and what it gave as reasons where it is not.

    Args:
        story: The session, from the log.
        configuration: The session, from the records.
    """
    members = {} if configuration is None else {one.name: one for one in configuration.roster.members}
    found = []
    for name in story.started["institutions"] if story.started is not None else ():
        codes = story.reasons.get(name, Counter())
        member = members.get(name)
        found.append(
            {
                "name": name,
                "domain": "" if member is None else configuration.plan.domains[member.domain_index],  # type: ignore[union-attr]
                "in_sums": sum(name in one.contributors for one in story.rounds.values()),
                "began": sum(name in one.present for one in story.rounds.values()),
                "signed": name in story.signed,
                "reasons": [f"{code} ({count}): {meaning_of(code).said}" for code, count in codes.items()],
            }
        )
    return found


def _configuration(folder: Path, session: str) -> SessionConfiguration | None:
    stored = SessionStore(folder).finished()
    same = stored is not None and stored.configuration.session.hex() == session
    return stored.configuration if stored is not None and same else None


def _judgement(folder: PartyFolder, log: Path) -> Judgement:
    """Return what an audit of the own log says; a line that is just being written is waited for."""
    roster = folder.roster() if folder.roster_file.exists() else None
    for _ in range(TRIES):
        judgement = judge(replace(gather([log]), roster=roster, trusted=roster is not None))
        if not any(one.kind is Kind.CUT_OFF for one in judgement.findings):
            break
        time.sleep(AGAIN_AFTER_S)
    return judgement


def _minute(moment: datetime | None) -> str:
    return "not known" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
