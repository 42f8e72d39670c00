"""What the live view of an institution and of a coordinator says, read from their folders."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedapt_secure.cli.work.running.live_view import LiveView, Row

if TYPE_CHECKING:
    from fedapt_server.settings import ServerSettings


def institution_facts(folder: Path, log: Path) -> Callable[[], list[Row]]:
    """Return what says where an institution stands.

    Args:
        folder: Its folder.
        log: Its log.
    """
    from fedapt_client.activity import ACTIVITY_FILE  # noqa: PLC0415
    from fedapt_client.activity_words import activity_line  # noqa: PLC0415
    from fedapt_client.page.rounds import FollowedLog  # noqa: PLC0415
    from fedapt_client.page.state import session_fields  # noqa: PLC0415
    from fedapt_client.status import activity_of  # noqa: PLC0415

    followed = FollowedLog(log)

    def facts() -> list[Row]:
        doing, last = activity_of(folder / ACTIVITY_FILE, running=True)
        words = activity_line({"running": True, "doing": doing, "last": last}).removeprefix("yes: ")
        rows: list[Row] = [("now", words)]
        followed.read_on()
        if followed.current is None:
            return rows
        session = session_fields(followed.current, running=True)
        rows += [("session", session["session"][:16]), ("rounds", (session["completed"], session["planned"]))]
        if session["budget"] is not None:
            rows.append(("epsilon", f"{session['epsilon']:.3f} of {session['budget']:g}"))
        done = [one for one in session["rounds"] if one["status"] == "completed"]
        if done:
            rows.append(("newest sum", f"round {done[0]['round']}: {', '.join(done[0]['contributors'])}"))
        if session["end"] is not None:
            rows.append(("end", f"about {session['end']} UTC"))
        return rows

    return facts


def coordinator_facts(folder: Path, settings: "ServerSettings") -> Callable[[], list[Row]]:
    """Return what says where a coordinator's service stands.

    Args:
        folder: Its folder.
        settings: Its settings.
    """
    from fedapt_server.standing import STATES, doing_words, status_fields  # noqa: PLC0415

    def facts() -> list[Row]:
        fields = status_fields(folder, settings)
        state = STATES[fields["state"]]
        rows: list[Row] = [("now", state if fields["running"] else f"{state} (from its folder)")]
        if fields["session"] is not None:
            rows += [("session", fields["session"][:16]), ("rounds", (fields["completed"], fields["rounds"]))]
            if fields["round"]:
                phase = f", {fields['phase']}" if fields["phase"] else ""
                attempt = f", attempt {fields['attempt']}" if fields["attempt"] > 1 else ""
                rows.append(("round", f"{fields['round']}{attempt}{phase}"))
            if fields["aborted"]:
                rows.append(("without a sum", f"{fields['aborted']} attempts"))
        if fields["ends"]:
            rows.append(("end", f"about {fields['ends'][:16].replace('T', ' ')} UTC"))
        if fields["reason"]:
            rows.append(("waits", fields["reason"]))
        for name in fields["institutions"]:
            here = "" if name in fields["connected"] else "not connected, "
            words = doing_words(fields["doing"].get(name))
            rows.append((name, (here + (words or "last heard of earlier")) if here or words else "connected"))
        return rows

    return facts


def coordinator_view(folder: Path, settings: "ServerSettings") -> LiveView:
    """Return the live view of a coordinator's service.

    Args:
        folder: Its folder.
        settings: Its settings.
    """
    title = f"{settings.federation}, coordinator"
    return LiveView(title, coordinator_facts(folder, settings), every_s=3.0)
