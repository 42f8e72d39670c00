"""Bodies of the coordinator's log lines, and the messages that follow from the configuration alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedapt_crypto import domain_keys
from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.log.heads import RoundRecord, pack_rounds, transcript_digest
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.outcome import Outcome
from fedapt_server.session.progress import GivenSum, GroupOffered, Progress
from fedapt_server.session.round import CoordinatorRound, Traffic
from fedapt_server.session.sums import moved_by


def session_started(configuration: SessionConfiguration) -> dict[str, Any]:
    """Return what an auditor needs to compute the configuration's hash again, the roster given."""
    plan = configuration.plan
    return {
        "session": configuration.session.hex(),
        "configuration": configuration.hash.hex(),
        "roster": configuration.roster.hash.hex(),
        "institutions": list(configuration.roster.names),
        "threshold": configuration.threshold,
        "rounds": plan.rounds,
        "secure_aggregation": plan.secure_aggregation,
        "participation": plan.participation,
        "differential_privacy": plan.differential_privacy,
        "key_commitments": [commitment.hex() for commitment in configuration.key_commitments],
        "plan": plan.model_dump(mode="json"),
    }


def group_secret(configuration: SessionConfiguration, offered: GroupOffered) -> dict[str, Any]:
    """Return who has made the session's group secret, and what stands for it."""
    return {
        "session": configuration.session.hex(),
        "made_by": offered.maker,
        "commitment": offered.commitment.hex(),
    }


def round_started(round_: CoordinatorRound) -> dict[str, Any]:
    """Return who begins a round, and with which model."""
    return {
        "session": round_.configuration.session.hex(),
        "round": round_.number,
        "attempt": round_.attempt,
        "participants": list(round_.participants),
        "model": round_.model_id.hex(),
        "context": round_.context.hash.hex(),
        "phase": round_.phase.value if round_.phase is not None else None,
    }


def session_resumed(configuration: SessionConfiguration, progress: Progress) -> dict[str, Any]:
    """Return where a session goes on after the coordinator was restarted."""
    return {
        "session": configuration.session.hex(),
        "configuration": configuration.hash.hex(),
        "round": progress.number,
        "attempt": progress.attempt,
        "interrupted": progress.interrupted,
        "model": progress.model_id.hex(),
    }


def without_sum(
    configuration: SessionConfiguration, progress: Progress, detail: str
) -> tuple[dict[str, Any], Progress]:
    """Return how the newest attempt ended where nobody can have contributed, as `after_round`.

    Args:
        configuration: The session.
        progress: How far it has come.
        detail: Why the attempt ended, for the log.
    """
    outcome = Outcome("aborted", (), (), (), detail)
    newest = (progress.number, progress.attempt)
    context = configuration.round_context(*newest, progress.model_id, progress.group_commitment)
    return _ended(progress, context, None, outcome, Traffic())


def after_round(
    progress: Progress, round_: CoordinatorRound, outcome: Outcome
) -> tuple[dict[str, Any], Progress]:
    """Return how a round ended, for the log, and how far the session has come with it.

    Args:
        progress: How far the session had come before.
        round_: The round.
        outcome: How it ended.
    """
    moved = round_.moved if outcome.given is not None else None
    after = progress if moved is None else moved.applied_to(progress)
    return _ended(after, round_.context, round_.transcript, outcome, round_.traffic)


def after_given(
    configuration: SessionConfiguration, progress: Progress, given: GivenSum
) -> tuple[dict[str, Any], Progress]:
    """Return how an attempt ended whose sum was given out before a crash, as `after_round`.

    Args:
        configuration: The session.
        progress: How far it had come.
        given: The sum.
    """
    outcome = Outcome("completed", given.participants, given.contributors, given.dropped, "", given)
    about = (given.round, given.attempt, progress.model_id, progress.group_commitment)
    context = configuration.round_context(*about)
    after = moved_by(configuration, progress, given).applied_to(progress)
    return _ended(after, context, given.transcript, outcome, Traffic())


def _ended(
    progress: Progress, context: RoundContext, transcript: bytes | None, outcome: Outcome, traffic: Traffic
) -> tuple[dict[str, Any], Progress]:
    """Return the line about the end of an attempt, and the session's progress with it on record.

    Args:
        progress: How far the session has come, with the model after the attempt.
        context: The attempt.
        transcript: What its messages amount to; ``None`` where it did not come to that.
        outcome: How it ended.
        traffic: The bytes of its messages; zeros where a crash has lost the count.
    """
    record = RoundRecord(
        round=context.round,
        attempt=context.attempt,
        status=outcome.status,
        context=context.hash,
        transcript=transcript,
    )
    body = {
        "session": context.session.hex(),
        "round": record.round,
        "attempt": record.attempt,
        "status": record.status,
        "participants": list(outcome.participants),
        "contributors": list(outcome.contributors),
        "dropped": list(outcome.dropped),
        "detail": outcome.detail,
        "context": record.context.hex(),
        "transcript": None if record.transcript is None else record.transcript.hex(),
        "model": progress.model_id.hex(),
        "bytes_up": traffic.bytes_up,
        "bytes_down": traffic.bytes_down,
    }
    return body, replace(progress, records=(*progress.records, record), last_end=body)


def closing(progress: Progress) -> dict[str, Any]:
    """Return what the institutions are asked to sign the end of."""
    return {"completed_rounds": progress.completed_rounds, "model": progress.model_id.hex()}


def done(name: str, message: m.Done) -> dict[str, Any]:
    """Return that an institution has signed the session's end, and which bundle it has stored, if any."""
    return {"name": name, "bundle": None if message.bundle_hash is None else message.bundle_hash.hex()}


def session_ended(configuration: SessionConfiguration, progress: Progress) -> dict[str, Any]:
    """Return how a session ended, and who has signed that."""
    return {
        "session": configuration.session.hex(),
        "completed_rounds": progress.completed_rounds,
        "rounds": progress.number,
        "done": sorted(progress.signed),
    }


def session_end(
    configuration: SessionConfiguration,
    identity: Identity,
    model_id: bytes,
    key_seeds: tuple[bytes, ...],
    rounds: Sequence[RoundRecord],
) -> m.SessionEnd:
    """Return what ends a session, signed with the model's hash: all domain keys and how each round went.

    Args:
        configuration: The session.
        identity: The coordinator's signing key.
        model_id: What stands for the final model.
        key_seeds: One seed a domain key.
        rounds: How each attempt ended.
    """
    parts = (configuration.hash, model_id, key_seeds, transcript_digest(rounds))
    signature = identity.sign("session end", *parts)
    return m.SessionEnd(key_seeds=key_seeds, rounds=pack_rounds(rounds), signature=signature)


def sealed_key(
    configuration: SessionConfiguration, identity: Identity, key_seeds: tuple[bytes, ...], name: str
) -> m.SealedKey:
    """Return the seed of an institution's domain key, sealed to it and signed.

    Args:
        configuration: The session.
        identity: The coordinator's signing key.
        key_seeds: One seed a domain key.
        name: To whom it is sealed.
    """
    member = configuration.roster.member(name)
    session, index = configuration.session, configuration.key_index(name)
    sealed = domain_keys.seal_seed(key_seeds[index], member.sealing_key, session, index, name)
    signature = identity.sign("sealed key", session, index, name, sealed)
    return m.SealedKey(session=session, key_index=index, sealed=sealed, signature=signature)
