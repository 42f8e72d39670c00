"""What a domain key does to the meta prompt: the paper's rule, and those that ablations compare it with."""

from dataclasses import dataclass
from typing import Final, Literal

KeyFusion = Literal["multiply", "add"]
"""``multiply``: P + P ⊙ k, as in the paper (Su et al., AAAI 2024, section 4.1). ``add``: P + k."""
KeyValues = Literal["uniform", "signed", "normal", "contexts"]
"""What a key's numbers u, which are U[0, 1), stand for: ``uniform``, u itself, as in the reference code;
 ``signed``, U[-1, 1); ``normal``, N(0, 1); ``contexts``, N(0, 0.02²), as contexts start."""
MULTIPLY: Final = "multiply"
ADD: Final = "add"
UNIFORM: Final = "uniform"


@dataclass(frozen=True)
class KeyUse:
    """How keys modulate contexts; the same at everyone of a session.

    Attributes:
        fusion: What is done with a key.
        values: What its numbers stand for.
    """

    fusion: KeyFusion = MULTIPLY
    values: KeyValues = UNIFORM


AS_IN_THE_PAPER: Final = KeyUse()
