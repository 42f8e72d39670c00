"""What an institution has joined, spent and released, durable before it happens.

Rules that survive a crash at any statement:
- a round is joined at most once and only if it is newer than all before;
- a session's terms are on record before its first step and never change; it counts from its first reservation
  on, which takes all planned steps out of the data set's allowance for good
  (`fedapt_secure.privacy.composition` has the rule that ledger, policy and audit share);
- steps are reserved before training and never given back; an update is released at most once;
- a data set is known by its images, and by its people where they are named. One that shares an image or a
  person with an earlier one carries all of that one's spend: simple, and never below the truth.
"""

import secrets
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fedapt_client.books.fingerprints import Fingerprinter, KnownImage, images_hash, load_or_make
from fedapt_client.books.ledger_events import LedgerEvent, PlannedSession, Terms
from fedapt_client.books.ledger_file import LedgerFile, now
from fedapt_crypto.errors import BudgetExhausted, InvalidInput, ReplayedExecution
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.protocol.reasons import Reason, told_as

DATASET_BYTES: Final = 16
_KEY_CHECK: Final = "fingerprint key"

Admission = Callable[[Sequence[PlannedSession], Terms], None]
"""Raises `PolicyRefused` where a session's terms do not fit next to the sessions that count."""

Settle = Callable[[Sequence[PlannedSession], Terms], Terms]
"""Returns a new session's terms as they are to be recorded, next to the sessions that count."""


class _NotMeant(Exception):
    """Rolls back what was done only to see whether it can be."""


class Ledger:
    """One institution's durable record.

    Args:
        path: The file; made where missing, and a key for fingerprints next to it.
        admission: The policy's judgement, asked when a session is accepted and again, under the ledger's
            lock, before its first step: another process may have spent in between.

    Raises:
        InvalidInput: If ledger or key cannot be used.
    """

    def __init__(self, path: Path, admission: Admission) -> None:
        self._file = LedgerFile(path)
        self._admission = admission
        with self._file.transaction() as database:
            row = database.execute("SELECT value FROM facts WHERE name = ?", (_KEY_CHECK,)).fetchone()
            known = None if row is None else bytes(row[0])
            self._fingerprinter: Fingerprinter = load_or_make(path, known=known)
            if known is None:
                database.execute("INSERT INTO facts VALUES (?, ?)", (_KEY_CHECK, self._fingerprinter.check))

    @property
    def file(self) -> LedgerFile:
        """The file, for what lies in it besides."""
        return self._file

    @property
    def patient_key(self) -> bytes:
        """The key under which PatientIDs become subjects; as secret as the ledger's own."""
        return self._fingerprinter.patient_key()

    @property
    def sessions(self) -> list[PlannedSession]:
        """Every session on record, oldest first."""
        with self._file.transaction() as database:
            return self._all(database)

    def plan(self, session: bytes) -> PlannedSession:
        """Return a session on record; raises `InvalidInput` where there is none."""
        with self._file.transaction() as database:
            planned = self._planned(database, session)
        if planned is None:
            raise InvalidInput("no plan is on record for this session: it has to be accepted first")
        return planned

    def counted(self, planned: PlannedSession) -> list[PlannedSession]:
        """Return the other sessions whose spend a session's images and people carry."""
        with self._file.transaction() as database:
            return self._counted(database, planned.terms.session, (planned.dataset, *planned.overlaps))

    def record_plan(
        self,
        terms: Terms,
        images: Collection[KnownImage],
        subjects: Collection[str] = (),
        settle: Settle | None = None,
    ) -> PlannedSession:
        """Fix a session's terms for a set of images; the same again later is fine, anything else is not.

        One that has not begun by then is judged again.

        Args:
            terms: What the session is going to do.
            images: By what each training image is known.
            subjects: Whose images they are, where the data says so.
            settle: Gives a new session the rule of composition that these images have.

        Returns:
            The session on record, with the data set that was recognised or made.

        Raises:
            PolicyRefused: If the session does not fit the policy.
            InvalidInput: If there is no image, or other terms or images are on record for this session.
        """
        with self._file.transaction() as database:
            self._learn_pixels(database, images)
        with self._file.transaction() as database:
            return self._record_plan(database, terms, images, subjects, settle)

    def _record_plan(
        self,
        database: sqlite3.Connection,
        terms: Terms,
        images: Collection[KnownImage],
        subjects: Collection[str],
        settle: Settle | None,
    ) -> PlannedSession:
        if not images:
            raise InvalidInput("a session without training images has nothing to account for")
        make, people = self._fingerprinter, self._fingerprinter.of_subjects(subjects)
        known_by = make.fingerprints(images) | people
        # The same pictures are the same images; earlier versions took the same files for that.
        same = images_hash(people.union(*(make.of_pixels(one) or make.of_files(one) for one in images)))
        same_before = images_hash(people.union(*(make.of_files(one) for one in images)))
        found = self._planned(database, terms.session)
        if found is not None:
            kept = found.terms  # with the rule of composition that it was accepted under
            with told_as(Reason.LEDGER_DIFFERS):
                if kept != replace(terms, composition=kept.composition, rdp_order=kept.rdp_order):
                    raise InvalidInput("this session already has another privacy plan on record; not changed")
            with told_as(Reason.DATA_CHANGED):
                if found.images not in (same, same_before):
                    raise InvalidInput(
                        "the training images are not those with which this session was accepted: put them"
                        " back, or wait for the next session"
                    )
            if not found.steps_taken:  # nothing is used yet, and the policy may have changed
                datasets = (found.dataset, *found.overlaps)
                self._admission(self._counted(database, terms.session, datasets), kept)
            return found
        dataset, overlaps = self._recognise(database, known_by)
        counted = self._counted(database, terms.session, (dataset, *overlaps))
        terms = terms if settle is None else settle(counted, terms)
        self._admission(counted, terms)
        database.executemany(
            "INSERT INTO images VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(one, dataset) for one in known_by],
        )
        planned = PlannedSession(terms, dataset, same, now(), overlaps, steps_taken=0)
        self._file.insert(database, "plans", *planned.to_row())
        for other in overlaps:
            self._file.insert(database, "overlaps", terms.session, other)
        return planned

    def judge_plan(
        self,
        terms: Terms,
        images: Collection[KnownImage],
        subjects: Collection[str] = (),
        settle: Settle | None = None,
    ) -> PlannedSession:
        """Return what `record_plan` would put on record, or raise what it would; nothing is on record after.

        Args:
            terms: What the session would do.
            images: By what each training image is known.
            subjects: Whose images they are, where the data says so.
            settle: As for `record_plan`.

        Raises:
            PolicyRefused, InvalidInput: As `record_plan` does.
        """
        judged: list[PlannedSession] = []
        with suppress(_NotMeant), self._file.transaction() as database:
            judged.append(self._record_plan(database, terms, images, subjects, settle))
            raise _NotMeant
        return judged[0]

    def join(self, context: RoundContext) -> None:
        """Record that a round is joined.

        Raises:
            ReplayedExecution: If it is not newer than every round joined in this session, or this round's
                update was released in an earlier attempt: the difference of two sums would be that update.
        """
        with self._file.transaction() as database:
            query = "SELECT 1 FROM releases WHERE session = ? AND round = ?"
            if database.execute(query, (context.session, context.round)).fetchone() is not None:
                raise ReplayedExecution(
                    f"the update of round {context.round} was released in an earlier attempt: this"
                    " institution sits the round out"
                )
            moved = "SELECT max(round) FROM models WHERE session = ?"
            (verified,) = database.execute(moved, (context.session,)).fetchone()
            if verified is not None and context.round <= verified:
                raise ReplayedExecution(
                    f"round {context.round} is not newer than round {verified}, whose sum is in our model"
                )
            newest = database.execute(
                "SELECT max(round), max(attempt) FILTER (WHERE round ="
                " (SELECT max(round) FROM executions WHERE session = ?1)) FROM executions WHERE session = ?1",
                (context.session,),
            ).fetchone()
            if newest[0] is not None and (context.round, context.attempt) <= tuple(newest):
                raise ReplayedExecution(
                    f"round {context.round} attempt {context.attempt} is not newer than round {newest[0]}"
                    f" attempt {newest[1]}, which was joined before"
                )
            self._file.insert(
                database, "executions", context.session, context.round, context.attempt, context.hash, now()
            )

    def reserve(self, session: bytes, round_number: int, steps: int) -> None:
        """Record that a round's steps are spent, before the first of them.

        A second attempt of the same round runs under the same reservation: its first noise was never
        released (`release` would have burned the round).

        Raises:
            InvalidInput: If the session has no plan on record.
            BudgetExhausted: If the steps exceed the plan.
            PolicyRefused: On the session's first step, if it does not fit the policy any more.
        """
        if steps < 1:
            raise ValueError("at least one step is reserved at a time; nothing is ever given back")
        with self._file.transaction() as database:
            planned = self._planned(database, session)
            if planned is None:
                raise InvalidInput("no plan is on record for this session: it has to be accepted first")
            if self._reserved(database, session, round_number):
                return
            taken, most = planned.steps_taken, planned.terms.max_steps
            if taken + steps > most:
                raise BudgetExhausted(
                    f"{steps} more steps would exceed the plan ({taken} of {most} are spent)"
                )
            if taken == 0:
                datasets = (planned.dataset, *planned.overlaps)
                self._admission(self._counted(database, session, datasets), planned.terms)
            self._file.insert(database, "reservations", session, round_number, steps, now())

    def steps_spent(self, session: bytes) -> int:
        """Return the steps reserved in a session so far."""
        with self._file.transaction() as database:
            return self._steps(database, session)

    def is_reserved(self, session: bytes, round_number: int) -> bool:
        """Return whether a round's steps are on record."""
        with self._file.transaction() as database:
            return self._reserved(database, session, round_number)

    def release(self, context: RoundContext) -> None:
        """Record that the round's update leaves now; from here on it is burned.

        Raises:
            ReplayedExecution: If this round's update was released before.
        """
        try:
            with self._file.transaction() as database:
                self._file.insert(database, "releases", context.session, context.round, context.hash, now())
        except sqlite3.IntegrityError:
            raise ReplayedExecution(f"the update of round {context.round} was released before") from None

    def has_joined(self, session: bytes) -> bool:
        """Return whether any round of a session was joined."""
        with self._file.transaction() as database:
            query = "SELECT 1 FROM executions WHERE session = ? LIMIT 1"
            return database.execute(query, (session,)).fetchone() is not None

    def history(self) -> list[LedgerEvent]:
        """Return plans, reservations and releases in the order of their times, as people read them."""
        with self._file.transaction() as database:
            events = [
                LedgerEvent(one.time, "plan", one.terms.session, None, one.terms.describe())
                for one in self._all(database)
            ]
            events += [
                LedgerEvent(time, "reservation", session, number, f"{steps} steps")
                for session, number, steps, time in self._file.rows(database, "reservations")
            ]
            events += [
                LedgerEvent(time, "release", session, number, f"context {context.hex()[:16]}")
                for session, number, context, time in self._file.rows(database, "releases")
            ]
        return sorted(events, key=lambda event: event.time)

    def _learn_pixels(self, database: sqlite3.Connection, images: Collection[KnownImage]) -> None:
        """Let data sets that know an image by a file of it know it by its pixels from now on.

        Earlier versions recorded files alone. This holds whether or not the session is admitted: who saves
        the images anew after a refusal must not find them forgotten.
        """
        make = self._fingerprinter
        pairs = [
            (file, pixels) for one in images for file in make.of_files(one) for pixels in make.of_pixels(one)
        ]
        database.execute("CREATE TEMP TABLE shown (file BLOB, pixels BLOB)")
        database.executemany("INSERT INTO shown VALUES (?, ?)", pairs)
        database.execute(
            "INSERT INTO images SELECT DISTINCT shown.pixels, images.dataset FROM shown"
            " JOIN images ON images.fingerprint = shown.file WHERE true ON CONFLICT DO NOTHING"
        )
        database.execute("DROP TABLE shown")

    @staticmethod
    def _recognise(database: sqlite3.Connection, known_by: set[bytes]) -> tuple[bytes, tuple[bytes, ...]]:
        """Return the data set that shares most images and people, or a new one, and others that share any."""
        database.execute("CREATE TEMP TABLE present (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID")
        database.executemany("INSERT INTO present VALUES (?)", [(one,) for one in known_by])
        shared = database.execute(
            "SELECT datasets.dataset FROM present JOIN images USING (fingerprint)"
            " JOIN datasets ON datasets.dataset = images.dataset"
            " GROUP BY datasets.dataset ORDER BY count(*) DESC, datasets.rowid"
        ).fetchall()
        database.execute("DROP TABLE present")
        if shared:
            first, *others = (row[0] for row in shared)
            return first, tuple(others)
        dataset = secrets.token_bytes(DATASET_BYTES)
        database.execute("INSERT INTO datasets VALUES (?, ?)", (dataset, now()))
        return dataset, ()

    def _counted(
        self, database: sqlite3.Connection, session: bytes, datasets: Sequence[bytes]
    ) -> list[PlannedSession]:
        """Return every other session that has begun on one of the data sets or on one that overlaps it."""
        return [
            one
            for one in self._all(database)
            if one.terms.session != session and one.steps_taken > 0 and one.touches(datasets)
        ]

    def _all(self, database: sqlite3.Connection) -> list[PlannedSession]:
        return [self._from_row(database, row) for row in list(self._file.rows(database, "plans"))]

    def _planned(self, database: sqlite3.Connection, session: bytes) -> PlannedSession | None:
        rows = list(self._file.rows(database, "plans", "WHERE session = ?", (session,)))
        return self._from_row(database, rows[0]) if rows else None

    def _from_row(self, database: sqlite3.Connection, row: tuple[Any, ...]) -> PlannedSession:
        session = row[0]
        overlaps = self._file.rows(database, "overlaps", "WHERE session = ?", (session,))
        others = tuple(other for _, other in overlaps)
        return PlannedSession.from_row(row, others, self._steps(database, session))

    def _steps(self, database: sqlite3.Connection, session: bytes) -> int:
        rows = self._file.rows(database, "reservations", "WHERE session = ?", (session,))
        return sum(steps for _, _, steps, _ in rows)

    @staticmethod
    def _reserved(database: sqlite3.Connection, session: bytes, round_number: int) -> bool:
        query = "SELECT 1 FROM reservations WHERE session = ? AND round = ?"
        return database.execute(query, (session, round_number)).fetchone() is not None
