"""The table: what a coordinator does, and what comes of it.

Four institutions, two rounds; `clinic-4` is the victim where there is one. The table in
docs/hostile-coordinator.md is made from it (`python -m tests.hostile.page`).
"""

from typing import Final

from tests.hostile.behaviour import Behaviour
from tests.hostile.table.ends import CATCHING_UP, ENDS
from tests.hostile.table.offers import GROUP, OFFERS
from tests.hostile.table.rounds import ROUNDS, WITHIN_A_ROUND
from tests.hostile.table.schemes import OTHER_SCHEMES
from tests.hostile.table.sums import SUMS

SECTIONS: Final[dict[str, tuple[Behaviour, ...]]] = {
    "Sums": SUMS,
    "Within a round": WITHIN_A_ROUND,
    "Rounds": ROUNDS,
    "Offers and domain keys": OFFERS,
    "The group secret": GROUP,
    "Catching up": CATCHING_UP,
    "The end": ENDS,
    "Other schemes": OTHER_SCHEMES,
}
TABLE: Final = tuple(row for rows in SECTIONS.values() for row in rows)
