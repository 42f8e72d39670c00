"""An institution's part in one attempt at a round, without I/O: from its update to what it saw of the sum."""

from fedapt_client.session.actions import Action, RecordOpening, RecordRelease, Refused, Send, TakeHead
from fedapt_client.session.own_model import OwnModel
from fedapt_client.session.witness import Witness
from fedapt_crypto.errors import PeerError, UnexpectedMessage
from fedapt_crypto.secagg.scheme import InstitutionRound, Outgoing, Phase, RoundContext
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration


class RoundPart:
    """What an institution knows and does in an attempt that it has joined.

    Args:
        configuration: The session. context: The attempt.
        witness: Signs the head of our log, which our first payload carries.
        own: Our model, which the sum moves.
    """

    def __init__(
        self, configuration: SessionConfiguration, context: RoundContext, witness: Witness, own: OwnModel
    ) -> None:
        self._own = own
        self.context = context
        self._configuration = configuration
        self._witness = witness
        self._machine: InstitutionRound | None = None
        self._head_sent = False

    @property
    def transcript(self) -> bytes | None:
        """What all parties of the round have agreed on, as far as it got."""
        return self._machine.transcript if self._machine is not None else None

    def enter(self, machine: InstitutionRound) -> list[Action]:
        """Enter secure aggregation."""
        self._machine = machine
        return self._answer(machine.start())

    def receive(self, message: m.Aggregation) -> list[Action]:
        """Take a payload of the coordinator; what does not hold is refused, and the round goes on without it.

        Raises:
            UnexpectedMessage: If it is of another attempt, or comes before our update.
        """
        if self._machine is None:
            raise UnexpectedMessage("a secure-aggregation message came outside a round")
        if (message.round, message.attempt) != (self.context.round, self.context.attempt):
            raise UnexpectedMessage("a secure-aggregation message belongs to another round")
        try:
            outgoing = self._machine.receive(message.payload)
        except PeerError as error:
            refused: list[Action] = [Refused(error, message.round)]
            statement = self._machine.abort_payload()
            if self._machine.finished:
                self._own.failed(self.context)
            if self._machine.finished and statement is not None:
                refused.append(Send(self._envelope(Phase(message.phase), statement)))
            return refused
        if outgoing is not None:
            return self._answer(outgoing)
        verified = self._machine.verified
        return [] if verified is None else self._own.take(self.context, verified, message.payload)

    def _answer(self, outgoing: Outgoing) -> list[Action]:
        number, phase = self.context.round, outgoing.phase
        message = self._envelope(phase, outgoing.payload)
        send: Action = Send(message, number, phase)
        if not self._head_sent:
            self._head_sent = True
            first, configuration = self._witness.first_of_round, self._configuration
            send = TakeHead(lambda head: [Send(first(configuration, message, head), number, phase)])
        if outgoing.opening is not None:
            self._own.reveal(outgoing.opening)
            return [RecordOpening(outgoing.opening), send]
        saturated = self._machine.saturated if self._machine is not None else 0
        return [RecordRelease(self.context, saturated), send] if outgoing.releases else [send]

    def _envelope(self, phase: Phase, payload: bytes) -> m.Aggregation:
        number, attempt = self.context.round, self.context.attempt
        return m.Aggregation(round=number, attempt=attempt, phase=phase.value, payload=payload)
