"""Institutions on a key: no sum with too few of them is signed, and the coordinator knows no key."""

import numpy as np
import pytest

from fedapt_client.session.actions import Train
from fedapt_client.session.requirements import Requirements
from fedapt_crypto import domain_keys
from fedapt_crypto.errors import PolicyRefused
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.hiding import Hiding, hidden
from fedapt_secure.protocol.reasons import Reason
from tests.protocol.federation import Federation
from tests.protocol.sessions.test_out_and_back import Doubtful

LONE = "clinic-2"
"""Of five institutions on two domains, 1, 3 and 5 share a key, and 2 and 4."""
RELEASING = {registry.MASKING: Phase.MASKED_INPUT, registry.CKKS: Phase.UPDATE}


def requirements(per_key: int, scheme: str = registry.MASKING) -> Requirements:
    return Requirements(
        differential_privacy=True,
        aggregation=(scheme,),
        minimum_participants=2,
        minimum_institutions_per_key=per_key,
    )


def refused(federation: Federation, name: str, per_key: int) -> str | None:
    configuration = federation.configuration
    needs = requirements(per_key, configuration.plan.secure_aggregation)
    try:
        needs.check(configuration, configuration.roster, name)
    except PolicyRefused as error:
        return f"{error.rule}: {error}"
    return None


class TestTheOffer:
    def test_a_session_with_too_few_on_our_key_is_refused(self) -> None:
        federation = Federation(5)
        assert refused(federation, LONE, 2) is None
        said = refused(federation, LONE, 3)
        assert said is not None
        assert "2 institutions on our domain key where 3 are required" in said
        assert said.startswith("minimum_institutions_per_key: ")
        assert "\n" not in said
        assert refused(federation, "clinic-1", 3) is None
        assert refused(federation, "clinic-1", 4) is not None

    def test_fewer_keys_or_none_let_institutions_hide_each_other(self) -> None:
        for federation in (Federation(5, keys=1), Federation(5, method="promptfl")):
            assert all(refused(federation, name, 5) is None for name in federation.parties)
            found = hidden(federation.configuration, LONE)
            assert (found.hiding, found.own, found.least, found.alone) == (Hiding.YES, 5, 5, ())

    def test_one_a_domain_is_refused_above_one_however_many_share_a_key(self) -> None:
        plan = {"participation": "one-per-domain", "domains": ("ink", "chalk", "print")}
        for federation in (Federation(6, **plan), Federation(6, **plan, keys=1)):
            assert refused(federation, LONE, 1) is None
            said = refused(federation, LONE, 2)
            assert said is not None
            assert "one institution of each domain" in said
        assert "\n" not in said
        alone = hidden(Federation(6, **plan).configuration, LONE)
        assert (alone.hiding, alone.own) == (Hiding.NO_ALONE, 1)

    def test_where_nothing_is_hidden_the_rule_says_nothing(self) -> None:
        federation = Federation(5, secure_aggregation=registry.NONE)
        assert refused(federation, LONE, 5) is None
        assert hidden(federation.configuration).hiding is Hiding.NO_SCHEME

    def test_what_people_read(self) -> None:
        alone = hidden(Federation(5, keys=5, domains=("ink", "chalk")).configuration, LONE)
        assert alone.said.startswith("hides a single institution: no (alone with its key); we are alone")
        other = hidden(Federation(3).configuration, "clinic-1").said
        assert other.endswith("no (alone with its key): clinic-2; 2 institutions on our key")
        beside = hidden(Federation(5).configuration, LONE)
        assert beside.said == "hides a single institution: yes; 2 institutions on our key"
        assert hidden(Federation(5).configuration).said.endswith("2 institutions on a key at least")


class TestTheRound:
    def test_who_wants_more_on_its_key_sits_out_before_anything_is_spent(self) -> None:
        """It comes with the next attempt that has them; the others' rounds go on without it."""
        federation = Doubtful(7)
        federation.parties[LONE].machine.requirements = requirements(3)
        federation.refusing = {"clinic-6": Reason.DATA_UNREADABLE}
        federation.play_and_persuade("clinic-6", 2, "round_started")
        [declined] = federation.entries("declined")
        assert (declined["name"], declined["reason"]) == (LONE, "policy_key")
        assert (declined["round"], federation.parties[LONE].joined[0][0]) == (1, 3)
        assert federation.parties[LONE].released == [3]
        assert len(federation.entries("round_ended")[-1]["contributors"]) == 7

    @pytest.mark.parametrize("scheme", RELEASING)
    def test_no_survivor_set_with_too_few_on_its_key_is_signed(self, scheme: str) -> None:
        """Its companion is lost after the round has begun, so that only the set shows it."""
        federation = Federation(5, secure_aggregation=scheme, rounds=2, requirements=requirements(2, scheme))
        federation.parties["clinic-4"].vanish_at = {(1, RELEASING[scheme])}
        federation.run()
        first, second = federation.entries("round_ended")[:2]
        # With CKKS the others' signatures bind them to that set, so that there is no other sum either.
        assert first["status"] == "aborted"
        assert second["status"] == ("completed" if scheme == registry.MASKING else "aborted")
        assert "TooFewParticipants" in first["detail"]
        assert LONE in first["detail"]
        assert federation.parties[LONE].refused[0].endswith("TooFewParticipants")
        signed = [
            name
            for name, data in federation.received_by_coordinator
            if b"consistency" in data and m.Aggregation.from_bytes(data).round == 1 and b"abort" not in data
        ]
        assert LONE not in signed
        assert not any(opening.context.round == 1 for opening in federation.parties[LONE].past.openings)

    @pytest.mark.parametrize("per_key", [1, 2])
    def test_the_rule_is_what_stops_it(self, per_key: int) -> None:
        federation = Federation(5, rounds=1, requirements=requirements(per_key))
        federation.parties["clinic-4"].vanish_at = {(1, Phase.MASKED_INPUT)}
        federation.run()
        assert federation.entries("round_ended")[0]["status"] == ("completed", "aborted")[per_key - 1]

    def test_a_start_that_is_not_about_us_or_names_strangers_is_refused(self) -> None:
        federation = Federation(5)

        def starts(data: bytes, indices: bytes) -> bytes:
            return m.RoundStart.from_bytes(data).model_copy(update={"participants": indices}).to_bytes()

        for indices in (parties.pack([0, 2]), parties.pack([0, 1, 9]), b"\0\1\0\1", b"\0\1\0"):
            again = federation.next_session(bytes(15) + indices[-1:])
            again.tamper = lambda name, data, new=indices: (
                starts(data, new) if name == LONE and b"round start" in data else data
            )
            with pytest.raises(Exception, match=r"begins without us|list of parties"):
                again.run()
            assert again.parties[LONE].joined == []


class TestKeys:
    @pytest.mark.parametrize("scheme", RELEASING)
    def test_the_coordinator_knows_no_key_and_all_institutions_have_the_same(self, scheme: str) -> None:
        federation = Federation(3, secure_aggregation=scheme, rounds=1)
        federation.run()
        plan, session = federation.plan, federation.configuration.session
        sets = [party.concluded.domain_keys for party in federation.parties.values()]
        for keys in sets[1:]:
            assert all(np.array_equal(one, other) for one, other in zip(sets[0], keys, strict=True))
        for index, (seed, key) in enumerate(zip(federation.seeds, sets[0], strict=True)):
            known = domain_keys.expand(seed, session, index, plan.shape.key, None)
            assert not np.isclose(known, key).mean() > 0.01

    def test_a_key_follows_from_all_that_stands_for_it(self) -> None:
        session, other = bytes(16), bytes(15) + b"\1"
        seed, shape = bytes(32), (2, 4)
        group = GroupSecret(session, bytes(32))
        keys = [
            domain_keys.expand(seed, session, 0, shape, group),
            domain_keys.expand(seed, other, 0, shape, group),
            domain_keys.expand(seed, session, 1, shape, group),
            domain_keys.expand(b"\1" * 32, session, 0, shape, group),
            domain_keys.expand(seed, session, 0, shape, GroupSecret(session, b"\1" * 32)),
            domain_keys.expand(seed, session, 0, shape, None),
        ]
        assert len({key.tobytes() for key in keys}) == len(keys)
        assert all(((key >= 0) & (key < 1)).all() for key in keys)

    def test_the_same_key_in_training_and_in_the_end(self) -> None:
        federation = Federation(3, rounds=1)
        trained: dict[str, bytes] = {}
        original = federation._institution

        def noted(party, todo) -> None:
            for action in todo:
                if isinstance(action, Train):
                    trained[party.name] = action.domain_key.tobytes()
            original(party, todo)

        federation._institution = noted
        federation.run()
        for name, party in federation.parties.items():
            index = federation.configuration.key_index(name)
            assert trained[name] == party.concluded.domain_keys[index].tobytes()
