"""A session names each class once: whoever builds or takes a plan refuses another one."""

import pytest

from fedapt_crypto.errors import InvalidInput, MalformedMessage
from fedapt_secure.config.settings import build
from fedapt_secure.protocol.session import SessionConfiguration, SessionPlan
from tests.protocol.federation import Federation


@pytest.fixture(scope="module")
def configuration() -> SessionConfiguration:
    return Federation(3, rounds=3).configuration


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["zero", "zero"], "session.yaml: class_names: the class 'zero' is named twice"),
        (["zero", "Zero", "zero "], "'zero' and 'Zero' are one class: the second differs by capital letters"),
        (["zero", "zero "], "'zero' and 'zero ' are one class: the second differs by a space at the end"),
        (["\u00e9", "e\u0301"], r"'é' and 'e\\u0301' are one class: .*Unicode NFD, not NFC"),
        (["zero", " "], "the class name ' ' is blank"),
    ],
)
def test_a_plan_with_one_class_twice_is_refused(configuration, names, said) -> None:
    fields = configuration.plan.model_dump(mode="json") | {"class_names": names}
    with pytest.raises(InvalidInput, match=said):
        build(SessionPlan, fields, source="session.yaml")


def test_an_institution_takes_no_configuration_with_one_class_twice(configuration) -> None:
    """A coordinator that leaves the check out does not get past the institutions."""
    names = ("zero", "Zero", *configuration.plan.class_names[2:])
    bad = configuration.model_copy(
        update={"plan": configuration.plan.model_copy(update={"class_names": names})}
    )
    with pytest.raises(MalformedMessage):
        SessionConfiguration.from_bytes(bad.to_bytes())
