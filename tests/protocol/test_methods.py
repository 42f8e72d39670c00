"""What all parties know of a method."""

from fedapt_secure.protocol.methods import FEDCLIP, LINEAR_PROBE, METHODS, method_facts


def test_a_private_learning_rate_is_taken_where_there_is_one() -> None:
    fedclip, probe = method_facts(FEDCLIP), method_facts(LINEAR_PROBE)
    assert fedclip.private_learning_rate is not None
    assert fedclip.default_rate(private=True) == fedclip.private_learning_rate
    assert fedclip.default_rate(private=False) == fedclip.learning_rate
    assert probe.default_rate(private=True) == probe.default_rate(private=False) == probe.learning_rate


def test_only_one_method_trains_nothing() -> None:
    class Sizes:
        classes = context_tokens = text_width = feature_size = domains = tower_values = 2
        meta_prompt = (2, 2, 2)

    assert [name for name, facts in METHODS.items() if not facts.parts(Sizes())] == ["zero-shot"]
