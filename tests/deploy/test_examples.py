"""The example files of the deployment kit are what the code writes and reads."""

from pathlib import Path

import pytest

from fedapt_client.settings import ClientSettings
from fedapt_secure.config.policy import Policy, read_policy
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_server.settings import ServerSettings
from tests.deploy.make_examples import FEDERATION, INSTITUTION, ROOT, examples

POLICY = ROOT / "client" / "policy.example.yaml"


@pytest.mark.parametrize("path", examples(), ids=lambda path: path.name)
def test_an_example_is_what_the_code_writes(path: Path) -> None:
    assert path.read_text() == examples()[path], "run python -m tests.deploy.make_examples"


def test_the_code_reads_them() -> None:
    server = ROOT / "server" / "server.example.yaml"
    assert build(ServerSettings, read_yaml(server), source="example") == FEDERATION
    assert build(SessionPlan, read_yaml(ROOT / "server" / "session.example.yaml"), source="example").rounds
    client = ROOT / "client" / "client.example.yaml"
    shown = build(ClientSettings, read_yaml(client), source="example")
    assert shown == build(ClientSettings, INSTITUTION, source="code")


def test_the_example_policy_is_the_one_that_holds_without_a_file() -> None:
    policy, found = read_policy(POLICY)
    assert found
    assert policy == Policy()


def test_the_example_policy_explains_every_rule() -> None:
    lines = POLICY.read_text().splitlines()
    for field in Policy.model_fields:
        [place] = [i for i, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{field}:")]
        assert lines[place - 1].startswith("#"), f"{field} has no comment above it"
