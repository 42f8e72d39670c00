"""Bodies of the coordinator's log lines, and the messages that follow from the configuration alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedapt_crypto import domain_keys
from fedapt_crypto.identity import Identity
from fedapt_secure.log.heads import RoundRecord, pack_rounds, transcript_digest
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.outcome import Outcome
from fedapt_server.session.progress import GivenSum, GroupOffered, Progress
from fedapt_server.session.round import CoordinatorRound
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


def round_ended(round_: CoordinatorRound, outcome: Outcome, model_id: bytes) -> dict[str, Any]:
    """Return how a round ended; ``model_id`` stands for the model after it."""
    record = record_of(round_, outcome)
    return {
        "session": round_.configuration.session.hex(),
        "round": record.round,
        "attempt": record.attempt,
        "status": record.status,
        "participants": list(outcome.participants),
        "contributors": list(outcome.contributors),
        "dropped": list(outcome.dropped),
        "detail": outcome.detail,
        "context": record.context.hex(),
        "transcript": record.transcript.hex() if record.transcript is not None else None,
        "model": model_id.hex(),
        "bytes_up": round_.traffic.bytes_up,
        "bytes_down": round_.traffic.bytes_down,
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
    context = configuration.round_context(
        progress.number, progress.attempt, progress.model_id, progress.group_commitment
    )
    record = RoundRecord(
        round=progress.number,
        attempt=progress.attempt,
        status="aborted",
        context=context.hash,
        transcript=None,
    )
    body = {
        "session": configuration.session.hex(),
        "round": record.round,
        "attempt": record.attempt,
        "status": record.status,
        "participants": [],
        "contributors": [],
        "dropped": [],
        "detail": detail,
        "context": context.hash.hex(),
        "transcript": None,
        "model": progress.model_id.hex(),
        "bytes_up": 0,
        "bytes_down": 0,
    }
    return body, replace(progress, records=(*progress.records, record), last_end=body)


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
    if moved is not None:
        progress = moved.applied_to(progress)
    body = round_ended(round_, outcome, progress.model_id)
    return body, replace(progress, records=(*progress.records, record_of(round_, outcome)), last_end=body)


def after_given(
    configuration: SessionConfiguration, progress: Progress, given: GivenSum
) -> tuple[dict[str, Any], Progress]:
    """Return how an attempt ended whose sum was given out before a crash, as `after_round`.

    Args:
        configuration: The session.
        progress: How far it had come.
        given: The sum.
    """
    context = configuration.round_context(
        given.round, given.attempt, progress.model_id, progress.group_commitment
    )
    record = RoundRecord(
        round=given.round,
        attempt=given.attempt,
        status="completed",
        context=context.hash,
        transcript=given.transcript,
    )
    after = moved_by(configuration, progress, given).applied_to(progress)
    body = {
        "session": configuration.session.hex(),
        "round": record.round,
        "attempt": record.attempt,
        "status": record.status,
        "participants": list(given.participants),
        "contributors": list(given.contributors),
        "dropped": list(given.dropped),
        "detail": "",
        "context": context.hash.hex(),
        "transcript": given.transcript.hex(),
        "model": after.model_id.hex(),
        "bytes_up": 0,
        "bytes_down": 0,
    }
    return body, replace(after, records=(*progress.records, record), last_end=body)


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


def record_of(round_: CoordinatorRound, outcome: Outcome) -> RoundRecord:
    """Return what the session's end says about a round."""
    return RoundRecord(
        round=round_.number,
        attempt=round_.attempt,
        status=outcome.status,
        context=round_.context.hash,
        transcript=round_.transcript,
    )


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
