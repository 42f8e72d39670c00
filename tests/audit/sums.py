"""What the parties of `harness.Federation` log about sums: who has verified which, and who is behind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.registry import MASKING, NONE
from fedapt_secure.protocol.messages import model_to_bytes
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration, model_hash
from fedapt_secure.protocol.stated import SumStatement
from fedapt_secure.protocol.statements import sign_sum

if TYPE_CHECKING:
    from tests.audit.harness import Federation


def digest(*parts: object) -> bytes:
    return sha256(repr(parts).encode()).digest()


@dataclass
class Sums:
    """The models of one session, and the lines about them.

    Attributes:
        federation: Whose logs are written.
        session, configuration: The session.
        scheme: Its secure aggregation.
        first: What stands for the first model.
        written: Whether the lines are written at all; logs of before have none.
    """

    federation: "Federation"
    session: bytes
    configuration: bytes
    scheme: str = MASKING
    first: bytes = b""
    written: bool = True
    model: bytes = b""
    round: int = 0
    behind: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.model = self.first = self.first or digest("model", 0)

    @property
    def group(self) -> bytes:
        """Stands for the group secret."""
        return digest("secret", self.session)

    def begin(self) -> None:
        """Everybody notes the group secret."""
        if not self.written or self.scheme == NONE:
            return
        body = {"session": self.session.hex(), "commitment": self.group.hex()}
        logs = self.federation.logs
        logs[self.federation.names[0]].write("group_made", {"session": self.session.hex()})
        logs[COORDINATOR].write("group", body | {"made_by": self.federation.names[0]})
        for name in self.federation.names:
            logs[name].write("group", body)

    def catch_up(self, names: Sequence[str]) -> None:
        """Whoever is behind takes the newest model."""
        for name in self.federation.names:
            if self.written and name in self.behind and name in names:
                stated_by = [one for one in self.federation.names if one not in self.behind]
                body = {"round": self.round, "model": self.model.hex(), "stated_by": stated_by}
                self.federation.logs[name].write("caught_up", {"session": self.session.hex()} | body)
                self.behind.discard(name)

    def verified(self, number: int, contributors: Sequence[str], present: Sequence[str]) -> None:
        """Those who are there verify a round's sum, and everybody else is behind."""
        after = digest("model", self.session, number)
        for name in present:
            if self.written:
                body = self.statement(name, number, contributors, self.model, after)
                self.federation.logs[name].write("verified_sum", body)
        self.behind |= set(self.federation.names)
        self.behind -= set(present)
        self.model, self.round = after, number

    def statement(
        self, name: str, number: int, contributors: Sequence[str], before: bytes, after: bytes, **other: Any
    ) -> dict[str, Any]:
        """Return the body of a ``verified_sum`` line, signed; ``other`` are fields of another statement."""
        fields = {
            "session": self.session,
            "configuration_hash": self.configuration,
            "round": number,
            "attempt": 1,
            "transcript": digest("transcript", self.session, number),
            "sum_hash": digest("sum", self.session, number),
            "sum_tag": digest("tag", self.session, number)[:8] if self.scheme != NONE else b"",
            "model_before": before,
            "model_after": after,
        }
        statement = SumStatement.model_validate(fields | other)
        return {
            "session": statement.session.hex(),
            "round": statement.round,
            "attempt": statement.attempt,
            "transcript": statement.transcript.hex(),
            "contributors": list(contributors),
            "sum": statement.sum_hash.hex(),
            "tag": statement.sum_tag.hex(),
            "model_before": statement.model_before.hex(),
            "model": statement.model_after.hex(),
            "signature": sign_sum(self.federation.identities[name], statement).hex(),
        }

    def unresolved(self, name: str, number: int, survivors: Sequence[str], model: bytes) -> dict[str, Any]:
        """Return the body of an ``unresolved`` line."""
        return {
            "session": self.session.hex(),
            "round": number,
            "attempt": 1,
            "transcript": digest("transcript", self.session, number).hex(),
            "survivors": list(survivors),
            "model": model.hex(),
        }


def configured(
    federation: "Federation", session: bytes, plan: SessionPlan
) -> tuple[SessionConfiguration, bytes, dict[str, Any]]:
    """Return the configuration, the first model and what the coordinator logs of a plan."""
    commitments = tuple(digest("key", index) for index in range(plan.key_count))
    configuration = SessionConfiguration(
        session=session, plan=plan, roster=federation.roster, key_commitments=commitments
    )
    first = model_hash(model_to_bytes(plan.initial_model()))
    fields = {"plan": plan.model_dump(mode="json"), "key_commitments": [one.hex() for one in commitments]}
    return configuration, first, fields
