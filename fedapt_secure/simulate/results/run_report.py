"""A finished run as one page, ``report.html``: what was asked, what came of it, what it cost, how to go on.

Everything stands in the run folder; the verdict is the auditor's own, from the logs. One file without script
or outside resource, for screen and paper.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.private_files import write_atomically
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure import __version__
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.audit.report import wording
from fedapt_secure.config.paper_choices import steps_said
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.pages.answers import answers
from fedapt_secure.pages.charts import epsilon_chart
from fedapt_secure.pages.environment import page_environment, strips_of
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.simulate.results.summary import Summary
from fedapt_secure.simulate.setup.federation import Federation

TEMPLATE: Final = "run_report.html.j2"
MOST_CURVES: Final = 20


def write_report(federation: Federation, summary: Summary) -> Path:
    """Write the page into the run folder; return where.

    Args:
        federation: The run.
        summary: What came out of it.

    Raises:
        InvalidInput: If it cannot be written.
    """
    judgement = audit([federation.folder.path]) if federation.folder.log(COORDINATOR).exists() else None
    page = to_html(federation, summary, judgement, datetime.now(UTC))
    write_atomically(federation.folder.report, page.encode(), mode=PUBLIC_FILE_MODE)
    return federation.folder.report


def to_html(federation: Federation, summary: Summary, judgement: Judgement | None, made: datetime) -> str:
    """Return the page.

    Args:
        federation: The run.
        summary: What came out of it.
        judgement: What an audit of its logs says; ``None`` where nothing was logged, as nothing is exchanged.
        made: When.
    """
    parties = () if judgement is None else judgement.parties
    rounds = summary["rounds"]
    return (
        page_environment(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            summary=summary,
            facts=method_facts(summary["method"]),
            asked=asked(federation),
            judgement=judgement,
            wording=wording,
            mark=wording.MARK,
            accuracy=summary["accuracy"][summary["method"]],
            zero_shot=summary["accuracy"]["zero_shot"],
            answers=answers(summary["per_class"], summary["confusion"], federation.dataset.class_names),
            domains=federation.dataset.domains,
            curves=[
                (party.party, points, summary["privacy"].get(party.party, {}).get("epsilon_budget"))
                for party in parties
                for points in party.curves.values()
                if points
            ][:MOST_CURVES],
            chart=epsilon_chart,
            grid=None if judgement is None else judgement.participation,
            strips=[] if judgement is None else strips_of(judgement.participation.columns),
            time=time_by_part(rounds, summary["seconds_total"]),
            made=f"{made:%Y-%m-%d %H:%M} UTC",
            version=__version__,
        )
    )


def asked(federation: Federation) -> list[tuple[str, str]]:
    """Return what was asked for, in words."""
    settings, plan = federation.settings, federation.plan
    model = settings.model if settings.pretrained is None else f"{settings.model} ({settings.pretrained})"
    steps = steps_said(plan.local_steps, plan.batch_size, plan.local_epochs)
    privacy = "none" if settings.epsilon is None else f"differential privacy, ε = {settings.epsilon:g} each"
    return [
        ("Method", f"{method_facts(plan.method).title}, guided by {plan.supervision}"),
        ("Model", model),
        ("Images", _images(settings)),
        ("Classes", f"{len(plan.class_names)}"),
        ("Institutions", f"{len(federation.institutions)} in {len(plan.domains)} domains"),
        ("Training", f"{plan.rounds} rounds of {steps}"),
        ("Privacy", privacy),
        ("Secure aggregation", plan.secure_aggregation),
        ("Seed", f"{settings.seed}"),
    ]


def _images(settings: SimulateSettings) -> str:
    unseen = "" if settings.unseen_domain is None else f", without {settings.unseen_domain}"
    return f"{settings.dataset}{unseen}"


def time_by_part(rounds: Sequence[Mapping[str, Any]], total: float) -> list[tuple[str, float]]:
    """Return what took how many seconds; the rest is what rounds did not take.

    Args:
        rounds: Of the summary, with ``seconds``.
        total: The whole run's.
    """
    spent = sum(one["seconds"] for one in rounds)
    rest = max(0.0, total - spent)
    return [("rounds", spent), ("model, images, joining, evaluation", rest), ("in all", spent + rest)]
