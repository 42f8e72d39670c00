"""What all parties know of a method."""

from fedapt_secure.protocol.methods import COCOOP, FEDCLIP, METHODS


class Two:
    """Everything is two."""

    classes = context_tokens = text_width = feature_size = domains = tower_values = 2
    meta_prompt = (2, 2, 2)


def test_noise_lies_on_text_features_or_on_all_that_is_trained() -> None:
    for name, facts in METHODS.items():
        if facts.keeps_prior:
            trained = sum(part.size for part in facts.parts(Two()))
            expected = trained if name in (FEDCLIP, COCOOP) else 2 * 2**2
            assert facts.noisy_values(Two()) == expected, name


def test_who_trains_the_image_tower_or_nothing_keeps_no_prior() -> None:
    assert {name for name, facts in METHODS.items() if not facts.keeps_prior} == {
        "fedavg",
        "fedprox",
        "zero-shot",
    }


def test_only_one_method_trains_nothing() -> None:
    assert [name for name, facts in METHODS.items() if not facts.parts(Two())] == ["zero-shot"]
