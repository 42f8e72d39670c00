"""A rehearsal at the coordinator, without I/O: what everybody answers to a session only asked about."""

from dataclasses import dataclass
from typing import Any

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import UnexpectedMessage
from fedapt_crypto.identity import Identity
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class Answer:
    """What an institution said.

    Attributes:
        reason: Why it would refuse; ``None`` where it would not.
        encoding_s, round_s: How long its images and a round take at most, coarse, in seconds; 0 if not known.
    """

    reason: str | None
    encoding_s: float
    round_s: float


class CoordinatorRehearsal:
    """Asks all institutions of a roster about one session.

    Args:
        configuration: The session; it is never offered.
        identity: The coordinator's signing key.
    """

    def __init__(self, configuration: SessionConfiguration, identity: Identity) -> None:
        self._configuration = configuration
        self._identity = identity
        self.answers: dict[str, Answer | None] = dict.fromkeys(configuration.roster.names)

    @property
    def missing(self) -> frozenset[str]:
        """Who has not answered yet."""
        return frozenset(name for name, answer in self.answers.items() if answer is None)

    @property
    def all_ready(self) -> bool:
        """Whether everybody would take part."""
        return all(answer is not None and answer.reason is None for answer in self.answers.values())

    def question(self) -> bytes:
        """Return what is sent to everybody."""
        configuration = self._configuration
        signature = self._identity.sign("rehearsal", configuration.hash)
        return m.Rehearse(configuration=configuration.to_bytes(), signature=signature).to_bytes()

    def receive(self, name: str, data: bytes) -> m.Activity | Answer:
        """Take what an institution says; raises `PeerError` if it does not hold."""
        message = decode_one_of(data, m.FROM_INSTITUTION, max_bytes=m.SessionAccept.max_bytes)
        match message:
            case m.Activity():
                return message
            case m.Rehearsed(configuration_hash=asked) if asked == self._configuration.hash:
                answer = Answer(message.reason, message.encoding_s, message.round_s)
                self.answers[name] = answer
                return answer
        raise UnexpectedMessage(f"sent {message.kind!r} where a session is rehearsed", peer=name)

    def body(self) -> dict[str, Any]:
        """Return what the log says: ready, the code of the reason, or no answer."""
        answers = {
            name: "no_answer" if answer is None else answer.reason or "ready"
            for name, answer in self.answers.items()
        }
        return {"configuration": self._configuration.hash.hex(), "answers": answers}
