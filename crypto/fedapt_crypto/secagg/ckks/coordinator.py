"""The coordinator's side of CKKS aggregation, without I/O but for its worker process.

It adds ciphertexts it cannot open, and their tags. It keeps one serialized running sum and nothing of the
summands; while an update is being added, the sum so far and the sum with it, so that a hostile ciphertext
takes neither the coordinator nor the sum with it.
"""

from collections.abc import Mapping

from fedapt_crypto.encoding import decode_one_of, kinds_of
from fedapt_crypto.errors import (
    ContextMismatch,
    InvalidInput,
    MalformedMessage,
    RoundAborted,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.ckks.group import PublicGroup, execution_id, sum_hash, transcript_id
from fedapt_crypto.secagg.ckks.messages import (
    CkksUpdate,
    ContributorAnnouncement,
    ContributorSignature,
    SumDelivery,
    max_update_bytes,
)
from fedapt_crypto.secagg.ckks.parameters import check_round, pieces_of
from fedapt_crypto.secagg.scheme import Aggregate, Phase, RoundContext
from fedapt_crypto.secagg.signed import Abort
from fedapt_crypto.secagg.tags import tag_from_bytes, tag_to_bytes
from fedapt_crypto.sum_tag import PRIME


class CkksCoordinator:
    """The coordinator in one round of CKKS aggregation.

    Args:
        context: The round that all parties must agree on.
        roster: The session's roster.
        group: The coordinator's part of the session's group.

    Raises:
        InvalidInput: If the parameters cannot hold the round, or the group is for another session.
    """

    def __init__(self, context: RoundContext, roster: Roster, group: PublicGroup) -> None:
        check_round(context)
        if context.group != group.commitment:
            raise InvalidInput("the group is for another session")
        self._context = context
        self._roster = roster
        self._group = group
        self._execution = execution_id(context)
        self._phase: Phase | None = Phase.UPDATE
        self._gone: set[str] = set()
        self._expected: tuple[str, ...] = roster.names
        self._sum: list[bytes] = []
        self._sum_tag = 0
        self._summed: set[str] = set()
        self._contributors: tuple[str, ...] = ()
        self._sum_hash = b""
        self._signatures: dict[str, ContributorSignature] = {}

    @property
    def phase(self) -> Phase | None:
        """The phase being collected; ``None`` when the round is over."""
        return self._phase

    @property
    def waiting_for(self) -> frozenset[str]:
        """Names that may still send in this phase."""
        return frozenset(self._expected) - self._gone - self._arrived

    @property
    def aggregate(self) -> Aggregate | None:
        """Nothing: in this scheme the sum is the institutions'."""
        return None

    @property
    def contributors(self) -> tuple[str, ...]:
        """Whose updates are in the sum, in roster order; empty until the ``update`` phase is closed."""
        return self._contributors

    @property
    def revealing(self) -> tuple[str, ...]:
        """The contributors, once they are asked to sign: with enough signatures each can open the sum."""
        return self._contributors

    @property
    def false_senders(self) -> tuple[str, ...]:
        """Nobody: this scheme has nothing that proves it."""
        return ()

    @property
    def transcript(self) -> bytes | None:
        """What stands for contributors and sum; ``None`` until they are announced."""
        if not self._contributors:
            return None
        return transcript_id(self._execution, self._contributors, self._sum_hash)

    @property
    def _arrived(self) -> set[str]:
        if self._phase is Phase.UPDATE:
            return self._summed
        return set(self._signatures) if self._phase is Phase.CONSISTENCY else set()

    def drop(self, name: str) -> None:
        """Count ``name`` as gone for the rest of the round; what it has sent stays."""
        self._gone.add(name)

    def receive(self, sender: str, payload: bytes) -> None:
        """Take an institution's payload; see `scheme.CoordinatorRound.receive`.

        An abort is taken after the round's end too: an institution that could not open the sum says so.
        """
        message = decode_one_of(payload, _KINDS, max_bytes=max_update_bytes(self._context.vector_length))
        if message.sender != sender:
            raise VerificationFailed("sent a message in another's name", peer=sender)
        if isinstance(message, Abort):
            self._receive_abort(message)
        if sender not in self.waiting_for:
            raise UnexpectedMessage(f"sent {message.kind!r} in the wrong phase, late or twice", peer=sender)
        if isinstance(message, CkksUpdate) and self._phase is Phase.UPDATE:
            self._take_update(sender, message)
        elif isinstance(message, ContributorSignature) and self._phase is Phase.CONSISTENCY:
            self._take_signature(sender, message)
        else:
            raise UnexpectedMessage(f"sent {message.kind!r} in the wrong phase, late or twice", peer=sender)

    def close_phase(self) -> Mapping[str, bytes]:
        """End the phase with whoever sent; see `scheme.CoordinatorRound.close_phase`."""
        if self._phase is None:
            raise RoundAborted("the round is over")
        arrived = tuple(name for name in self._roster.names if name in self._arrived)
        if len(arrived) < self._context.threshold:
            phase, self._phase = self._phase, None
            self._sum = []
            raise RoundAborted(
                f"{len(arrived)} of {self._context.participants} institutions completed {phase.value!r},"
                f" {self._context.threshold} are needed"
            )
        self._expected = arrived
        return self._announce() if self._phase is Phase.UPDATE else self._deliver()

    def _receive_abort(self, message: Abort) -> None:
        message.check_signature(self._roster)
        if message.context != self._context.hash:
            raise ContextMismatch("aborted another round", peer=message.sender)
        self._phase = None
        self._sum = []
        accused = f" and accuses {message.accused}" if message.accused else ""
        raise RoundAborted(f"{message.sender} aborted ({message.reason}){accused}")

    def _take_update(self, sender: str, message: CkksUpdate) -> None:
        message.check_signature(self._roster)
        if message.execution != self._execution:
            raise ContextMismatch("takes part in another round, model, configuration or roster", peer=sender)
        if len(message.pieces) != pieces_of(self._context.vector_length):
            raise MalformedMessage("sent an update of the wrong length", peer=sender)
        tag = tag_from_bytes(message.update_tag, sender)
        self._sum = self._group.add(self._sum, message.pieces, sender)
        self._sum_tag = (self._sum_tag + tag) % PRIME
        self._summed.add(sender)

    def _take_signature(self, sender: str, message: ContributorSignature) -> None:
        message.check_signature(self._roster)
        bound = (message.execution, message.contributors, message.sum_hash)
        if bound != (self._execution, self._contributors, self._sum_hash):
            raise ContextMismatch("signed another contributor set or sum", peer=sender)
        self._signatures[sender] = message

    def _announce(self) -> Mapping[str, bytes]:
        self._contributors = self._expected
        self._sum_hash = sum_hash(self._execution, self._sum, tag_to_bytes(self._sum_tag))
        self._phase = Phase.CONSISTENCY
        announcement = ContributorAnnouncement(
            execution=self._execution, contributors=self._contributors, sum_hash=self._sum_hash
        )
        return dict.fromkeys(self._expected, announcement.to_bytes())

    def _deliver(self) -> Mapping[str, bytes]:
        delivery = SumDelivery(
            execution=self._execution,
            contributors=self._contributors,
            pieces=tuple(self._sum),
            sum_tag=tag_to_bytes(self._sum_tag),
            signatures=tuple(self._signatures[name] for name in self._expected),
        )
        self._phase = None
        self._sum = []
        return dict.fromkeys(self._expected, delivery.to_bytes())


_KINDS = kinds_of(CkksUpdate, ContributorSignature, Abort)
