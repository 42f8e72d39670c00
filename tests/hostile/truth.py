"""What must hold however a coordinator lies: computed from updates, not from what anybody says of them."""

from collections.abc import Mapping

import numpy as np

from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import registry
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement
from tests.hostile.stage import Ending, update_of

_CKKS_IS_OFF_BY = 1e-3
"""At most, by the noise that hides its key."""


def right_models(ending: Ending) -> Mapping[int, np.ndarray]:
    """Return the model after each round, from the updates of those whose sum was verified.

    P' = float32(float64(P) + X·2⁻ᶠ/|U|), where X is the sum of the rounded updates as whole numbers.
    """
    plan = ending.configuration.plan
    fixed = ending.configuration.round_context(1, 1, bytes(32), None).fixed_point
    models = {0: plan.initial_model()}
    for number, names in sorted(contributors(ending).items()):
        before = models[max(models)]
        updates = [update_of(name, number, before.size) for name in names]
        if plan.secure_aggregation == registry.NONE:
            total = np.sum([one.astype("f8") for one in updates], axis=0)
        else:
            whole = sum(np.rint(one.astype("f8") * 2.0**fixed.fraction_bits).astype("i8") for one in updates)
            total = whole * 2.0**-fixed.fraction_bits
        models[number] = (before.astype("f8") + total / len(names)).astype("f4")
    return models


def contributors(ending: Ending) -> dict[int, tuple[str, ...]]:
    """Return whose updates each round's verified sum holds; all who verified it agree."""
    found: dict[int, tuple[str, ...]] = {}
    for name in ending.models:
        for line in ending.lines(name, "verified_sum"):
            names = tuple(line["contributors"])
            if ending.configuration.plan.secure_aggregation != registry.NONE:
                assert found.setdefault(line["round"], names) == names
            found.setdefault(line["round"], names)
    return found


def assert_models(ending: Ending, right: tuple[str, ...], rounds: int) -> None:
    """Every institution holds a right model, those named the newest one, bit for bit."""
    models, blind = right_models(ending), ending.configuration.blind
    for name, kept in ending.models.items():
        expected = models[kept.round]
        if blind:
            np.testing.assert_allclose(kept.model, expected, atol=_CKKS_IS_OFF_BY)
        else:
            assert kept.model.tobytes() == expected.tobytes(), f"{name} holds a wrong model"
        assert kept.round == rounds if name in right or not right else kept.round <= rounds, name
    assert len({kept.model.tobytes() for name, kept in ending.models.items() if name in right}) <= 1


def assert_one_set_a_model(ending: Ending) -> None:
    """The coordinator never comes to know two sums over different institutions from one model."""
    sets: dict[bytes, set[tuple[str, ...]]] = {}
    for model, survivors in ending.sums:
        sets.setdefault(model, set()).add(survivors)
    assert all(len(one) == 1 for one in sets.values()), sets


def assert_nobody_honest_is_blamed(judgement: Judgement, but: tuple[str, ...] = ()) -> None:
    """The audit finds no institution at fault."""
    found = {
        one.party
        for one in judgement.findings
        if one.verdict in (Verdict.VIOLATED, Verdict.TAMPERED) and one.party != COORDINATOR
    }
    assert found == set(but)
