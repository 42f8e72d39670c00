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
class Outcome:
    """What comes of a behaviour.

    Attributes:
        right: Who ends with the right model; all others hold the last one that they had verified.
        rounds: The newest round in that model, or in those of the others where nobody has it.
        refusing: Who turns something down. Nobody else does.
        refused: What their logs say: the error, and words of its sentence.
        noted: What the coordinator's log says: the type of a line, and words in it. ``None`` where it cannot
            know that anything happened, all ending well.
        verdict: What the audit says of the whole.
        named: Words of the audit's report that name it; ``{session}`` stands for the session's first bytes.
        blamed: Which institution the audit finds at fault, though it is not: where nothing protects.
    """

    right: tuple[str, ...] = FOUR
    rounds: int = 2
    refusing: tuple[str, ...] = NOBODY
    refused: tuple[str, str] | None = None
    noted: tuple[str, str] | None = None
    verdict: Verdict = Verdict.VERIFIED
    named: str = ""
    blamed: tuple[str, ...] = NOBODY


@dataclass(frozen=True)
class Behaviour:
    """One row.

    Attributes:
        name: What the coordinator does. lie: Does it. comes: What comes of it. scheme: Of secure aggregation.
    """

    name: str
    lie: Callable[[], Lie]
    comes: Outcome
    scheme: str = registry.MASKING

    @property
    def ends(self) -> str:
        """How it ends, in words."""
        if not self.comes.right:
            return "abort"
        if len(self.comes.right) == len(FOUR):
            return "right model"
        return f"right model at all but {VICTIM}, which aborts"
