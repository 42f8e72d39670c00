"""The policy file: conservative without one, strict with one, and the same content has the same hash."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity, fingerprint
from fedapt_secure.config.policy import Policy, read_policy
from fedapt_secure.config.ranges import EPSILON
from fedapt_secure.config.settings import build, write_yaml
from fedapt_secure.privacy.composition import default_rdp_order
from fedapt_secure.protocol.messages import MAX_FRAME_BYTES

POLICIES = st.builds(
    Policy,
    max_epsilon=st.floats(EPSILON.low, EPSILON.high),
    max_delta=st.floats(1e-12, 0.5),
    composition=st.sampled_from([None, "sum", "rdp-filter"]),
    require_differential_privacy=st.booleans(),
    aggregation=st.lists(st.sampled_from(["masking", "ckks", "none"]), min_size=1, unique=True).map(tuple),
    minimum_participants=st.integers(1, 100),
    share_metrics=st.sampled_from(["no", "masked"]),
)


def refuse(match: str, **fields: object) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        build(Policy, fields, source="policy.yaml")
    assert str(caught.value).startswith("policy.yaml: ")
    assert "\n" not in str(caught.value)


def test_without_a_file_the_conservative_defaults_hold(tmp_path: Path) -> None:
    policy, found = read_policy(tmp_path / "policy.yaml")
    assert not found
    assert policy == Policy()
    assert policy.require_differential_privacy
    assert policy.aggregation == ("masking",)
    assert policy.minimum_participants == 3
    assert policy.max_delta <= 1e-5
    assert policy.share_metrics == "no"
    assert (policy.composition, policy.allowance.composition) == (None, "rdp-filter")
    assert (policy.allowance.session_epsilon, policy.allowance.session_delta) == (2.0, 2.5e-6)


@given(POLICIES)
def test_a_file_gives_back_what_was_written(tmp_path_factory, policy: Policy) -> None:
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    write_yaml(path, policy, comment="Ours.")
    assert read_policy(path) == (policy, True)
    assert read_policy(path)[0].hash == policy.hash


def test_an_empty_file_is_a_policy_of_defaults_and_a_broken_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("# nothing\n")
    assert read_policy(path) == (Policy(), True)
    path.write_text("max_epsilon: [\n")
    with pytest.raises(InvalidInput, match=f"{path}, line "):
        read_policy(path)
    path.unlink()
    path.symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(InvalidInput, match="cannot read"):
        read_policy(path)


@pytest.mark.parametrize(("text", "value"), [("no", "no"), ("'no'", "no"), ("masked", "masked")])
def test_a_bare_no_means_no(tmp_path: Path, text: str, value: str) -> None:
    (tmp_path / "policy.yaml").write_text(f"share_metrics: {text}\n")
    assert read_policy(tmp_path / "policy.yaml")[0].share_metrics == value


def test_mistakes_are_named() -> None:
    refuse("unknown option 'max_epsilom'; did you mean 'max_epsilon'", max_epsilom=3)
    refuse("max_epsilon: ", max_epsilon=0)
    refuse("max_epsilon: ", max_epsilon=float("inf"))
    refuse("max_delta: ", max_delta=1)
    refuse("composition: Input should be 'sum' or 'rdp-filter'", composition="average")
    refuse("aggregation", aggregation=["masking", "paillier"])
    refuse("aggregation: ", aggregation=[])
    refuse("aggregation names a scheme twice", aggregation=["masking", "masking"])
    refuse("minimum_participants: ", minimum_participants=0)
    refuse("share_metrics: ", share_metrics="yes")
    refuse("share_metrics: ", share_metrics=True)
    refuse("max_message_bytes: ", max_message_bytes=1000)
    refuse("max_message_bytes: ", max_message_bytes=(512 << 20) + 1)
    refuse("unattended: ", unattended="perhaps")
    refuse("unattended: ", unattended=1)
    refuse("coordinators: 'b549' is not a fingerprint", coordinators=["b549"])
    refuse("rdp_order goes with composition rdp-filter only", composition="sum", rdp_order=4)
    refuse("session_epsilon, for one session, is above max_epsilon", session_epsilon=9)
    refuse("session_delta, for one session, is above max_delta", session_delta=1e-4)
    refuse("session_epsilon: ", session_epsilon=0)
    refuse(
        "session_delta: 0.02 is not in the range",
        session_delta=0.02,
        max_delta=0.1,
    )
    refuse("rdp_order: ", composition="rdp-filter", rdp_order=1)
    refuse("choose an order above", composition="rdp-filter", rdp_order=1.5, max_delta=1e-5)


@given(POLICIES)
def test_what_logs_state_gives_the_hash(policy: Policy) -> None:
    body = policy.to_body()
    content = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(content.encode()).hexdigest() == policy.hash
    expected = default_rdp_order(policy.max_epsilon, policy.max_delta)
    assert body["composition"] == (policy.composition or "rdp-filter")
    assert body["rdp_order"] == (None if policy.composition == "sum" else expected)
    assert body["named"] == ([] if policy.composition is None else ["composition"])
    assert body["session_epsilon"] == policy.max_epsilon / 4
    assert body["session_delta"] == min(policy.max_delta / 4, 0.01)


@given(POLICIES, POLICIES)
def test_equal_hashes_mean_equal_rules(one: Policy, other: Policy) -> None:
    assert (one.hash == other.hash) == (one.to_body() == other.to_body())


def test_the_order_of_schemes_is_no_difference() -> None:
    assert Policy(aggregation=("ckks", "masking")).hash == Policy(aggregation=("masking", "ckks")).hash
    assert Policy().hash != Policy(max_epsilon=8.1).hash


def test_a_fingerprint_may_be_typed_in_any_way() -> None:
    shown = "b549 5e76 32d4 acb5 0a06 53d3 505f 9c6a 1a5e 783b"
    for typed in (shown, shown.upper(), shown.replace(" ", "")):
        assert Policy(coordinators=(typed,)).coordinators == (shown,)
    own = fingerprint(Identity.generate().public_key)
    assert Policy(coordinators=(own,)).coordinators == (own,)
    assert Policy(coordinators=(shown, own)).hash == Policy(coordinators=(own, shown, own)).hash


def test_a_policy_takes_small_messages_unless_it_says_more() -> None:
    assert Policy().max_message_bytes == 64 << 20
    assert Policy(max_message_bytes=MAX_FRAME_BYTES).max_message_bytes == 512 << 20
