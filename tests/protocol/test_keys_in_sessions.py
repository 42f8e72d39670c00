"""Sessions with another number of keys than one a domain: who is sealed which seed, and what is refused."""

import pytest
from pydantic import ValidationError

from fedapt_crypto import domain_keys
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.archive.starting import new_configuration
from tests.protocol.federation import Federation, make_plan


@pytest.mark.parametrize(
    ("keys", "held"),
    [(None, (0, 1, 0, 1, 0)), (1, (0, 0, 0, 0, 0)), (3, (0, 1, 2, 1, 0)), (5, (0, 1, 2, 3, 4))],
)
def test_each_institution_opens_its_key_and_all_get_all_in_the_end(
    keys: int | None, held: tuple[int, ...]
) -> None:
    federation = Federation(5, keys=keys, bundle_for_coordinator=True)
    count = federation.plan.key_count
    assert federation.plan.shape.domains == count == len(federation.seeds)
    federation.run()
    shape = federation.plan.shape.key
    session = federation.configuration.session
    expected = [
        domain_keys.expand(seed, session, index, shape, None) for index, seed in enumerate(federation.seeds)
    ]
    for (name, party), key in zip(federation.parties.items(), held, strict=True):
        configuration = party.machine.configuration
        assert configuration.key_index(name) == key
        assert party.machine._seed == federation.seeds[configuration.key_index(name)]
        assert party.concluded is not None
        found = party.concluded.domain_keys
        assert len(found) == count
        assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_more_keys_than_institutions_are_refused_before_a_session_starts() -> None:
    roster = Federation(5).roster
    with pytest.raises(InvalidInput, match="6 keys for 5 institutions") as caught:
        new_configuration(make_plan(keys=6), roster, None)
    assert "\n" not in str(caught.value)


def test_a_configuration_with_too_few_commitments_is_none() -> None:
    federation = Federation(5)
    configuration = federation.configuration
    fields = configuration.model_dump() | {"plan": make_plan(keys=3)}
    with pytest.raises(ValidationError, match="one commitment a domain key"):
        SessionConfiguration.model_validate(fields)
