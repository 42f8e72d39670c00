import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.evaluation.scores import tally_of
from fedapt_secure.learning.evaluation.tally import Tally, per_class, routing_matrix

CLASSES = 7
NAMES = [f"class {index}" for index in range(CLASSES)]


@st.composite
def answers(draw):
    count = draw(st.integers(1, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    logits = torch.randn(count, CLASSES, generator=generator)
    return logits, torch.randint(CLASSES, (count,), generator=generator)


@given(answers())
def test_the_figures_are_those_of_scikit_learn(given_answers):
    logits, labels = given_answers
    tally = tally_of(logits, labels, None)
    every = range(CLASSES)
    said = logits.argmax(1)
    assert np.array_equal(tally.confusion(CLASSES), confusion_matrix(labels, said, labels=[*every]))
    assert tally.images == len(labels)
    assert tally.accuracy == pytest.approx((said == labels).double().mean().item())
    assert tally.top_5_accuracy == pytest.approx(
        top_k_accuracy_score(labels, logits.numpy(), k=5, labels=[*every])
    )
    precision, recall, _, support = precision_recall_fscore_support(
        labels, said, labels=[*every], zero_division=np.nan
    )
    found = per_class(tally, NAMES)
    assert [one.support for one in found] == support.tolist()
    np.testing.assert_allclose([np.nan if one.recall is None else one.recall for one in found], recall)
    np.testing.assert_allclose(
        [np.nan if one.precision is None else one.precision for one in found], precision
    )
    assert tally.keys == Counter()


@given(answers(), st.integers(0, 60))
def test_tallies_of_parts_add_up_to_the_whole_and_survive_json(given_answers, cut):
    logits, labels = given_answers
    chosen = labels % 3
    parts = [tally_of(logits[part], labels[part], chosen[part]) for part in (slice(cut), slice(cut, None))]
    whole = tally_of(logits, labels, chosen)
    assert parts[0] + parts[1] == whole
    assert whole + Tally() == whole
    assert Tally.from_fields(json.loads(json.dumps(whole.to_fields()))) == whole


def test_routing_says_which_domain_went_to_which_key():
    by_domain = {"ink": Tally(keys=Counter({0: 3, 2: 1})), "chalk": Tally(keys=Counter({1: 4}))}
    matrix = routing_matrix(by_domain, 3)
    assert matrix.tolist() == [[3, 0, 1], [0, 4, 0]]
    assert routing_matrix({}, 1).shape == (0, 1)


@pytest.mark.parametrize("change", [{"confusion": [[1, 2]]}, {"chosen_keys": None}, {"in_top_5": "many"}])
def test_damaged_counts_are_refused(change):
    fields = Tally(Counter({(0, 1): 2}), 2).to_fields()
    assert Tally.from_fields(fields).images == 2
    with pytest.raises(InvalidInput, match="missing or damaged"):
        Tally.from_fields(fields | change)
    with pytest.raises(InvalidInput, match="missing or damaged"):
        Tally.from_fields({})
