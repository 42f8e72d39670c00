"""What must hold in every world, checked on what parties send, store and compute, not on what they claim."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import PeerError
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.ckks.messages import CkksUpdate
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_crypto.secagg.masking.messages import MAX_SHARE_MESSAGE_BYTES, UnmaskShares
from fedapt_crypto.secagg.scheme import Phase, RoundContext
from fedapt_secure.log.heads import RoundRecord
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import initial_parameters
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.progress import Progress

Attempt = tuple[int, int]
"""Round and attempt."""


class Violation(AssertionError):
    """Something that must hold does not."""


def _rows(ledger: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Read a ledger's file without the ledger's own code."""
    with closing(sqlite3.connect(ledger)) as database:
        return database.execute(query, values).fetchall()


@dataclass
class Watch:
    """Sees everything that leaves a party or is durable, and raises `Violation`.

    Attributes:
        updates: What each institution's training returned, by institution and attempt.
        model: What the model must be by now, from the updates of the recorded contributors.
        completed: Contributors of each completed round. aborted: Attempts that gave no sum.
    """

    configuration: SessionConfiguration
    ledgers: dict[str, Path]
    updates: dict[tuple[str, Attempt], np.ndarray] = field(default_factory=dict)
    completed: dict[int, tuple[str, ...]] = field(default_factory=dict)
    aborted: set[Attempt] = field(default_factory=set)
    records: tuple[RoundRecord, ...] = ()
    starts: dict[Attempt, np.ndarray] = field(default_factory=dict)
    inputs: dict[tuple[str, int], bytes] = field(default_factory=dict)
    revealed: dict[tuple[str, bytes], tuple[set[bytes], set[bytes]]] = field(default_factory=dict)
    trained: dict[str, set[int]] = field(default_factory=dict)
    stated: dict[tuple[str, int], m.SumVerified] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.configuration.plan
        self.model = initial_parameters(plan.shape, plan.initial_seed).astype("f8")
        fixed_point = self.configuration.round_context(1, 1, bytes(32), None).fixed_point
        # A sum is off by at most half a unit a summand, and the model is stored in single precision; in CKKS
        # by the noise that hides the key. Both are far below what any one update changes.
        unit = 1e-4 if self.configuration.blind else fixed_point.resolution + 1e-6
        self._tolerance = 2 * plan.rounds * unit

    def training(self, name: str, attempt: Attempt, parameters: np.ndarray) -> None:
        """An institution is about to use its images."""
        self._same_model(parameters, self.starts[attempt], f"{name} was given another model in {attempt}")
        if name not in self.configuration.round_roster(attempt[0]).names:
            raise Violation(f"{name} trains in round {attempt[0]}, which is not its own")
        self.trained.setdefault(name, set()).add(attempt[0])
        self.ledger_holds(name)

    def trained_update(self, name: str, attempt: Attempt, update: np.ndarray) -> None:
        """An institution has an update for an attempt."""
        self.updates[name, attempt] = update

    def ledger_holds(self, name: str) -> None:
        """Check that the ledger says at least what was used: rounds trained for, and masked inputs sent."""
        plan, session = self.configuration.plan, self.configuration.session
        rounds = self.trained.get(name, set()) | {number for party, number in self.inputs if party == name}
        query = "SELECT coalesce(sum(steps), 0) FROM reservations WHERE session = ?"
        recorded = int(_rows(self.ledgers[name], query, session)[0][0]) if rounds else 0
        if recorded < len(rounds) * plan.local_steps:
            raise Violation(f"{name} used {len(rounds)} rounds, its ledger says {recorded} steps")

    def ledger_agrees(self, name: str, logged: int) -> None:
        """Check that the ledger says what the audit found, or more: the log's line comes after."""
        recorded = int(_rows(self.ledgers[name], "SELECT coalesce(sum(steps), 0) FROM reservations")[0][0])
        if logged > recorded:
            raise Violation(f"the audit finds {logged} steps of {name}, its ledger says {recorded}")

    def sent(self, name: str, data: bytes) -> None:
        """An institution sends a frame."""
        try:
            message = decode_one_of(data, m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES)
        except PeerError as error:
            raise Violation(f"{name} sends what nobody can read: {error}") from None
        if isinstance(message, m.SumVerified):
            self._stated(name, message)
        if not isinstance(message, m.Aggregation):
            return
        if MaskedPayload.begins(message.payload) or message.phase == Phase.UPDATE:
            self._input(name, message)
        elif message.phase == Phase.UNMASK:
            self._unmask(name, message)

    def _input(self, name: str, message: m.Aggregation) -> None:
        if message.phase == Phase.UPDATE and not _is_update(message.payload):
            return
        if (name, message.round) in self.inputs:
            raise Violation(f"{name} sent a second update in round {message.round}")
        self.inputs[name, message.round] = message.payload
        self.ledger_holds(name)
        query = "SELECT context FROM releases WHERE session = ? AND round = ?"
        released = _rows(self.ledgers[name], query, self.configuration.session, message.round)
        if len(released) != 1:
            raise Violation(f"{name} sent an update that its ledger does not know to be released")

    def _stated(self, name: str, message: m.SumVerified) -> None:
        """An institution states a sum: one for each round, and its model is on record."""
        number = message.statement.round
        if self.stated.setdefault((name, number), message) != message:
            raise Violation(f"{name} states two sums of round {number}")
        query = "SELECT model FROM models WHERE session = ? AND round = ?"
        rows = _rows(self.ledgers[name], query, self.configuration.session, number)
        if rows != [(message.statement.model_after,)]:
            raise Violation(f"{name} states a model that its ledger does not have")

    def _opened(self, name: str, attempt: Attempt) -> None:
        """An institution reveals shares: that is on record, and is about one survivor set from its model."""
        query = "SELECT round, attempt, context, survivors FROM openings WHERE session = ?"
        rows = _rows(self.ledgers[name], query, self.configuration.session)
        if attempt not in {(number, tried) for number, tried, _, _ in rows}:
            raise Violation(f"{name} reveals shares in {attempt} that its ledger does not know of")
        sets: dict[bytes, list[str]] = {}
        for _, _, context, survivors in rows:
            sets.setdefault(RoundContext.from_bytes(context).model_hash, []).append(survivors)
        if any(len(set(found)) > 1 or len(found) > 2 for found in sets.values()):
            raise Violation(f"{name} reveals shares for two survivor sets from one model")

    def _unmask(self, name: str, message: m.Aggregation) -> None:
        try:
            shares = decode_one_of(
                message.payload, {UnmaskShares.tag(): UnmaskShares}, max_bytes=MAX_SHARE_MESSAGE_BYTES
            )
        except PeerError:
            return  # an abort
        self._opened(name, (message.round, message.attempt))
        masks, roots = self.revealed.setdefault((name, shares.execution), (set(), set()))
        masks |= _pairs(shares.survivors)
        roots |= _pairs(shares.dropped)
        if masks & roots:
            raise Violation(f"{name} revealed both secrets of one institution in one execution")

    def is_new(self) -> None:
        """The coordinator begins a session and finds no earlier progress in its store."""
        if self.records:
            raise Violation("the coordinator's store has lost a session that had begun")

    def resumed(self, progress: Progress) -> None:
        """The coordinator goes on with what its store says."""
        if progress.records != self.records:
            raise Violation("the coordinator's store says other rounds than were put into it")
        self._check_blindly(progress, "the coordinator's store")

    def kept(self, progress: Progress, ends_on_disk: int) -> None:
        """The coordinator has made its progress durable: from here on it counts.

        Of the newest end alone the store holds the line: its log has all others for certain.
        """
        if ends_on_disk < len(progress.records) - 1:
            raise Violation("a power cut could take the ends of two rounds from the coordinator's log")
        known, records = len(self.records), progress.records
        if records[:known] != self.records or len(records) > known + 1:
            raise Violation("the coordinator's account of past rounds has changed")
        if len(records) > known:
            self.records = records
            self._ended(progress.last_end or {}, records[-1])
        self._check_blindly(progress, COORDINATOR)
        if progress.interrupted:
            self.starts.setdefault((progress.number, progress.attempt), self.model)

    def _ended(self, body: dict[str, Any], record: RoundRecord) -> None:
        if (record.round, record.attempt, record.status) != (body["round"], body["attempt"], body["status"]):
            raise Violation("what the log is to say of a round is not what the store says")
        self.ended(body)

    def _check_blindly(self, progress: Progress, whose: str) -> None:
        if not self.configuration.blind:
            self.check_model(progress.model, whose)

    def ended(self, body: dict[str, Any]) -> bool:
        """An attempt has ended; returns whether it gave a sum.

        Args:
            body: What the coordinator's log says about it.

        Raises:
            Violation: If it is a second sum of one round, or of updates that were never sent.
        """
        attempt = (body["round"], body["attempt"])
        if body["status"] != "completed":
            self.aborted.add(attempt)
            return False
        contributors = tuple(body["contributors"])
        if body["round"] in self.completed:
            raise Violation(f"round {body['round']} was completed twice")
        if len(set(contributors)) != len(contributors) or len(contributors) < self.configuration.threshold:
            raise Violation(f"a sum of {contributors} is below the threshold, or counts somebody twice")
        if not set(contributors) <= set(self.configuration.round_roster(body["round"]).names):
            raise Violation(f"a sum of {contributors} is not of the round's cohort")
        for name in contributors:
            if (name, attempt) not in self.updates or (name, attempt[0]) not in self.inputs:
                raise Violation(f"{name} is said to have contributed to {attempt} and has not")
        self.completed[body["round"]] = contributors
        self.model = self.model + np.mean([self.updates[name, attempt] for name in contributors], axis=0)
        return True

    def check_model(self, model: np.ndarray, whose: str) -> None:
        """Check a model against the sums that the recorded contributors must give."""
        self._same_model(model, self.model, f"{whose} has another model than its contributors give")

    def _same_model(self, model: np.ndarray, expected: np.ndarray, complaint: str) -> None:
        if model.shape != expected.shape or not np.abs(model - expected).max() <= self._tolerance:
            raise Violation(complaint)


def _is_update(payload: bytes) -> bool:
    try:
        decode_one_of(payload, {CkksUpdate.tag(): CkksUpdate}, max_bytes=m.MAX_FRAME_BYTES)
    except PeerError:
        return False
    return True


def _pairs(packed: bytes) -> set[bytes]:
    return {packed[at : at + 2] for at in range(0, len(packed), 2)}
