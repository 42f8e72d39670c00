"""Whether a clock can be believed, and of two that disagree which one is wrong: for certificates and advice.

Certificates bind keys to times, and a machine has only its clock to tell the time. What it can hold that
against lies beside it: the last line of its own log, the certificates it has, and what the other side says
the time is. No I/O here: a caller gathers the times, and shows the sentence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from fedapt_crypto.certificates import CertificateFacts
from fedapt_crypto.pki import CLOCK_SKEW

LONGEST_PAUSE: Final = timedelta(days=30)
"""After so long without a sign of life nothing is renewed by itself: a pause and a wrong clock look alike."""
SET_CLOCK: Final = "put it right ('timedatectl set-ntp true')"


@dataclass(frozen=True)
class Sign:
    """Something that happened at a known time, by this machine's clock of then.

    Attributes:
        what: What it was, with its article: ``the log's last line``.
        when: When; aware.
    """

    what: str
    when: datetime


def doubt(now: datetime, signs: Iterable[Sign], *, ran_until: datetime | None = None) -> str | None:
    """Return why this machine's clock should not be believed; ``None`` where nothing speaks against it.

    Args:
        now: What it says.
        signs: What happened before now, if it is right.
        ran_until: What it would say if it had run evenly since this process started: a process that has run
            for months without writing a line is no pause.
    """
    known = list(signs)
    if not known:
        return None
    newest = max(known, key=lambda sign: sign.when)
    if now < newest.when - CLOCK_SKEW:
        return (
            f"this machine's clock says {moment(now)}, {span(newest.when - now)} before {newest.what}"
            f" ({moment(newest.when)})"
        )
    alive = newest.when if ran_until is None else max(newest.when, ran_until)
    if now > alive + LONGEST_PAUSE:
        since = newest.what if alive == newest.when else "what it said a moment ago"
        return f"this machine's clock says {moment(now)}, {span(now - alive)} after {since} ({moment(alive)})"
    return None


class Suspect(Enum):
    """Whose clock is wrong, as far as it can be told."""

    OURS = auto()
    THEIRS = auto()
    NOBODY = auto()
    ONE_OF_BOTH = auto()
    UNKNOWN = auto()
    """Nothing is known of theirs, and nothing speaks against ours."""


@dataclass(frozen=True)
class Times:
    """What an institution knows about the time.

    Attributes:
        now: What its own clock says.
        theirs: What the coordinator says the time is, at the same moment, if it could be asked.
        last_line: When the last line of its own log was written, if there is one.
        own: Its own certificate, if it has one.
    """

    now: datetime
    theirs: datetime | None = None
    last_line: datetime | None = None
    own: CertificateFacts | None = None

    @property
    def signs(self) -> tuple[Sign, ...]:
        """What happened here before now, if the own clock is right."""
        logged = () if self.last_line is None else (Sign("its own log's last line", self.last_line),)
        issued = (
            () if self.own is None else (Sign("the beginning of its own certificate", self.own.not_before),)
        )
        return (*logged, *issued)

    @property
    def suspect(self) -> Suspect:
        """Whose clock is wrong.

        Two that agree are right. Of two that do not, one is wrong if it is behind what has happened before,
        or if the own certificate is valid by the other clock only: a running institution renews it in time.
        Lines of the own log count only against a clock that is behind them: where ours is wrong now, its last
        lines are as well. Otherwise the one further ahead is wrong if it takes a long silence to explain it.
        """
        latest = max((sign.when for sign in self.signs), default=None)
        if self.theirs is None:
            behind = latest is not None and self.now < latest - CLOCK_SKEW
            return Suspect.OURS if behind else Suspect.UNKNOWN
        if abs(self.theirs - self.now) <= CLOCK_SKEW:
            return Suspect.NOBODY
        if self.own is not None and self.own.valid(self.now) != self.own.valid(self.theirs):
            return Suspect.THEIRS if self.own.valid(self.now) else Suspect.OURS
        if latest is None:
            return Suspect.ONE_OF_BOTH
        if self.now < latest - CLOCK_SKEW <= self.theirs:
            return Suspect.OURS
        if min(self.now, self.theirs) < latest - CLOCK_SKEW or (
            max(self.now, self.theirs) <= latest + LONGEST_PAUSE
        ):
            return Suspect.ONE_OF_BOTH
        return Suspect.OURS if self.now > self.theirs else Suspect.THEIRS

    def advice(self) -> str | None:
        """Return whose clock is wrong and what to do, in one line; ``None`` where no clock seems wrong."""
        match self.suspect:
            case Suspect.OURS:
                return f"{self._ours()}: {SET_CLOCK}"
            case Suspect.THEIRS:
                return (
                    f"the coordinator's clock is wrong: it says {self._theirs()}; this machine's says"
                    f" {moment(self.now)}{self._since()}: ask its operator to put it right"
                )
            case Suspect.ONE_OF_BOTH:
                return (
                    f"this machine's clock says {moment(self.now)}, and the coordinator's says"
                    f" {self._theirs()}: compare both with a third one, and put the wrong one right"
                )
        return None

    def _ours(self) -> str:
        apart = [Sign("the coordinator's clock", self.theirs)] if self.theirs is not None else []
        others = [
            f"{span(self.now - sign.when)} {'after' if self.now > sign.when else 'before'} {sign.what}"
            f" ({moment(sign.when)})"
            for sign in (*apart, *self.signs)
            if abs(self.now - sign.when) > CLOCK_SKEW
        ]
        return f"this machine's clock is wrong: it says {moment(self.now)}, {', '.join(others)}"

    def _theirs(self) -> str:
        assert self.theirs is not None
        where = "after" if self.theirs > self.now else "before"
        return f"{moment(self.theirs)}, {span(self.theirs - self.now)} {where} this one's"

    def _since(self) -> str:
        if self.last_line is None:
            return ""
        return f", {span(self.now - self.last_line)} after its own log's last line"


def of_coordinator(certificate: CertificateFacts, times: Times) -> str | None:
    """Return what an institution is told where the coordinator's certificate is not valid by its own clock.

    Returns:
        One line; ``None`` where the certificate is valid now.
    """
    if certificate.valid(times.now):
        return None
    early = times.now < certificate.not_before
    what = _not_valid("the coordinator's certificate", certificate, times.now)
    whose = times.advice()
    if whose is not None:
        return f"{what}; {whose}"
    here = f"it is {moment(times.now)} here"
    if times.suspect is Suspect.NOBODY:
        if not early:
            return f"{what}, and {here} and there: ask its operator to run 'fedapt-secure server renew'"
        return (
            f"{what}, and {here} and there: its clock was wrong when the certificate was made: ask its"
            " operator to run 'fedapt-secure server renew --clock-is-right'"
        )
    since = "".join(
        f", {span(times.now - sign.when)} after {sign.what}"
        for sign in times.signs[:1]
        if sign.when < times.now
    )
    command = "fedapt-secure server renew --clock-is-right" if early else "fedapt-secure server renew"
    return f"{what}, and {here}{since}: if that is the time, ask its operator to run '{command}'"


def _not_valid(which: str, certificate: CertificateFacts, now: datetime) -> str:
    if now < certificate.not_before:
        return f"{which} is valid only from {moment(certificate.not_before)} on"
    return f"{which} expired on {moment(certificate.not_after)}"


def own_certificate(certificate: CertificateFacts, times: Times) -> str | None:
    """Return what an institution is told where its own certificate is not valid by its own clock.

    Returns:
        One line; ``None`` where it is valid now.
    """
    if certificate.valid(times.now):
        return None
    what = _not_valid("this institution's certificate", certificate, times.now)
    get_another = "run 'fedapt-secure client csr' and send the file to the coordinator's operator"
    whose = times.advice()
    if whose is not None:
        return f"{what}; {whose}"
    if times.suspect is Suspect.NOBODY:
        return f"{what}, and it is {moment(times.now)} here and at the coordinator's: {get_another}"
    since = ""
    if times.last_line is not None:
        since = f", {span(times.now - times.last_line)} after its own log's last line"
    return (
        f"{what}, and this machine's clock says {moment(times.now)}{since}: if that is the time,"
        f" {get_another}; if not, {SET_CLOCK}"
    )


def brought(certificate: CertificateFacts, times: Times) -> str | None:
    """Return why a certificate that just came is not installed: it is not valid by this machine's clock.

    Returns:
        One line; ``None`` where it is valid now.
    """
    if certificate.valid(times.now):
        return None
    what = _not_valid("the certificate that came", certificate, times.now)
    whose = times.advice() or (
        f"this machine's clock says {moment(times.now)}: if that is the time, the coordinator's was wrong"
        " when it signed: ask its operator to put it right"
    )
    return f"{what}, and was not installed; {whose}; then ask again"


def moment(time: datetime) -> str:
    """Return a time for people, to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def span(apart: timedelta) -> str:
    """Return how far two times are apart, in the largest unit of which there are two: ``400 days``."""
    seconds = abs(apart).total_seconds()
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
