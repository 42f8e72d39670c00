"""What a row of the table says: a coordinator's behaviour, and what has to come of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fedapt_crypto.secagg import registry
from fedapt_secure.audit.findings import Verdict
from tests.hostile.liar import Lie

FOUR: Final = ("clinic-1", "clinic-2", "clinic-3", "clinic-4")
VICTIM: Final = "clinic-4"
OTHERS: Final = FOUR[:3]
NOBODY: Final = ()


@dataclass(frozen=True)
class Behaviour:
    """One row.

    Attributes:
        name: What the coordinator does.
        lie: Does it.
        right: Who ends with the right model; all others end with the last one that they had verified.
        rounds: The newest round in that model.
        refusing: Who turns something down for it.
        refused: What their logs say: the error, and words of its sentence. Empty where nobody needs to.
        noted: Type of a line in the coordinator's log, and words in it, by which it shows there.
        verdict: What the audit says of the whole.
        named: Words by which the audit names it.
        scheme: Of secure aggregation.
    """

    name: str
    lie: Callable[[], Lie]
    right: tuple[str, ...] = FOUR
    rounds: int = 2
    refusing: tuple[str, ...] = NOBODY
    refused: tuple[str, str] | None = None
    noted: tuple[str, str] | None = None
    verdict: Verdict = Verdict.VERIFIED
    named: str = ""
    scheme: str = registry.MASKING

    @property
    def ends(self) -> str:
        """How it ends, in words."""
        if not self.right:
            return "abort"
        if len(self.right) == len(FOUR):
            return "right model"
        return f"right model at {', '.join(self.right)}"
