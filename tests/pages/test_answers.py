"""What of a model's answers fits onto a page."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedapt_secure.learning.evaluation.tally import Tally, class_fields
from fedapt_secure.pages.answers import MOST_CLASSES, MOST_IN_MATRIX, answers


def _tally(pairs: list[tuple[int, int]], classes: int) -> Tally:
    found = Tally()
    for true, said in pairs:
        found.pairs[true % classes, said % classes] += 1
    return found


@given(st.integers(1, 260), st.lists(st.tuples(st.integers(0, 259), st.integers(0, 259)), max_size=60))
def test_nothing_of_it_is_wrong_or_left_out_unsaid(classes: int, pairs: list[tuple[int, int]]) -> None:
    tally, names = _tally(pairs, classes), [f"class {number}" for number in range(classes)]
    matrix = tally.confusion(classes).tolist()
    fields: list[dict[str, Any]] = class_fields(tally, names, {})
    found = answers(fields, matrix, names)
    assert found.count == classes
    assert len(found.classes) == min(classes, MOST_CLASSES)
    assert (found.matrix is None) == (classes > MOST_IN_MATRIX)
    assert all(one["zero_shot_recall"] in (None, 0.0) for one in fields)
    if found.matrix is not None:
        assert not found.confused
        return
    wrong = int(np.sum(matrix)) - tally.correct
    counts = [one.count for one in found.confused]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == wrong or len(counts) == MOST_IN_MATRIX
    if classes > MOST_CLASSES:  # the worst stay, those without images go first
        shown = {one["name"] for one in found.classes}
        gone = [one for one in fields if one["name"] not in shown]
        worst_gone = min((one["recall"] for one in gone if one["recall"] is not None), default=2.0)
        assert all(one["recall"] <= worst_gone for one in found.classes if one["recall"] is not None)
