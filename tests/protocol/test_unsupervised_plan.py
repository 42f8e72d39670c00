"""Sessions without labels: what a plan may say, and the words that contexts start from."""

import numpy as np
import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import build
from fedapt_secure.protocol.initial_context import InitialContext
from fedapt_secure.protocol.parameters import unflatten
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from tests.protocol.federation import Federation


@pytest.fixture(scope="module")
def configuration() -> SessionConfiguration:
    return Federation(3, rounds=3).configuration


@pytest.fixture
def plan(configuration):
    fields = configuration.plan.model_dump(mode="json")

    def make(**changes) -> SessionPlan:
        return build(SessionPlan, fields | changes, source="session.yaml")

    return make


def words(plan: SessionPlan, count: int = 2) -> dict[str, str]:
    values = np.random.default_rng(0).normal(size=(count, plan.text_width)).astype(np.float32)
    return InitialContext.of("a photo", values).model_dump()


def test_the_last_rounds_look_at_neighbours(plan):
    found = plan(differential_privacy=False, unsupervised={"consistency_rounds": 2})
    assert [found.is_consistency_round(number) for number in (1, 2, 3)] == [False, True, True]
    assert not any(plan().is_consistency_round(number) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"differential_privacy": True, "unsupervised": {"consistency_rounds": 1}},
            "must be 0 under differential privacy",
        ),
        ({"differential_privacy": False, "unsupervised": {"consistency_rounds": 4}}, "more consistency"),
        (
            {"differential_privacy": True, "unsupervised": {"pseudo_label_mean": "sure"}},
            "must be batch under differential privacy: how many of a batch",
        ),
        ({"differential_privacy": True, "unsupervised": {"transductive": True}}, "transductive cannot be"),
        ({"differential_privacy": True, "batch_size": 8}, "batch_size cannot be under differential privacy"),
        ({"differential_privacy": False, "local_epochs": 2}, "give batch_size as well"),
        ({"unsupervised": {"augmentations": ["blur", "flip"]}}, "in the order flip"),
        ({"unsupervised": {"augmentations": ["flip", "flip"]}}, "once each"),
        ({"unsupervised": {"confidence": 1.0}}, "confidence"),
        (
            {"method": "fedavg", "tower_values": 5, "differential_privacy": False, "unsupervised": {}},
            "cannot be trained without labels: it trains the image tower",
        ),
        ({"method": "linear-probe", "initial_context": {"words": "a", "values": "AAAA"}}, "no context"),
        ({"initial_context": {"words": "a", "values": "AAAAAA=="}}, "no embeddings of width"),
        ({"initial_context": {"words": "a", "values": "!!!!"}}, "no base64"),
    ],
)
def test_what_cannot_be_is_refused(plan, changes, said):
    with pytest.raises(InvalidInput, match=said):
        plan(**changes)


def test_a_plan_comes_back_from_bytes_and_counts_in_the_hash(configuration, plan):
    changed = configuration.model_copy(
        update={
            "plan": plan(
                differential_privacy=False,
                unsupervised={"consistency_rounds": 1, "augmentations": ["jitter"]},
                initial_context=words(configuration.plan),
            )
        }
    )
    assert SessionConfiguration.from_bytes(changed.to_bytes()) == changed
    assert changed.hash != configuration.hash


def test_contexts_start_from_the_words_and_the_rest_is_as_it_was(plan):
    start, found = plan(), plan(initial_context=words(plan()))
    context = unflatten(found.shape, found.initial_model())["meta_prompt"]
    random = unflatten(start.shape, start.initial_model())
    embeddings = found.initial_context.embeddings(found.text_width)
    assert (context[..., :2, :] == embeddings).all()
    assert (context[..., 2:, :] == random["meta_prompt"][..., 2:, :]).all()
    network = unflatten(found.shape, found.initial_model())["adaptive_network"]
    assert (network == random["adaptive_network"]).all()


def test_more_words_than_places_are_refused(plan):
    many = words(plan(), plan().context_tokens + 1)
    with pytest.raises(InvalidInput, match="raise it"):
        plan(initial_context=many)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_embeddings_out_of_range_are_refused(value):
    with pytest.raises(InvalidInput, match="not finite or out of range"):
        InitialContext.of("a", np.full((1, 4), value, np.float32)).embeddings(4)
