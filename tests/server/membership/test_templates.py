"""The files that ``server init`` writes: every setting is there, and the example of a session works."""

from pathlib import Path

import pytest
import yaml

from fedapt_secure.config.annotated import fill
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_server.membership.templates import SERVER
from fedapt_server.ports.admission_limits import MAX_ADDRESSES, MAX_PER_WINDOW, WINDOW_S, AdmissionLimits
from fedapt_server.settings import ServerSettings
from tests.support.offices import Office


def test_the_settings_show_every_setting_and_its_default() -> None:
    text = fill(SERVER, ServerSettings().model_dump(mode="json"))
    shown = yaml.safe_load(text)
    commented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    hidden = yaml.safe_load("\n".join(c for c in commented if c.split(":")[0] in ServerSettings.model_fields))
    assert (shown | hidden).keys() == ServerSettings.model_fields.keys()
    assert build(ServerSettings, shown | hidden, source="template") == ServerSettings()


@pytest.mark.parametrize("value", ["no", "null", "1e3", "a: b", "#x", "'", "ä\u2028b"])
def test_values_come_back_as_they_are(value: str) -> None:
    assert yaml.safe_load(fill("key: {key}\n", {"key": value})) == {"key": value}


def test_the_example_of_a_session_is_one(tmp_path: Path) -> None:
    office = Office(tmp_path)
    path = office.folder.path / "session.yaml"
    plan = build(SessionPlan, read_yaml(path), source=str(path))
    assert read_yaml(path).keys() == SessionPlan.model_fields.keys()
    explained = path.read_text().splitlines()
    assert sum(line.startswith("#") for line in explained) > 20
    backbone = load_backbone(plan.model, plan.pretrained)
    facts = (backbone.weight_hash, backbone.identity, backbone.text_width, backbone.feature_size)
    assert facts == (plan.weight_hash, plan.model_identity, plan.text_width, plan.feature_size)


class TestLimits:
    def test_a_minute_later_an_address_may_come_again(self) -> None:
        limits = AdmissionLimits()
        for _ in range(MAX_PER_WINDOW):
            assert limits.enter("a", 0.0) is None
            limits.leave("a")
        assert "wait a minute" in str(limits.enter("a", 1.0))
        assert limits.enter("b", 1.0) is None
        assert limits.enter("a", WINDOW_S + 1) is None

    def test_memory_is_bounded(self) -> None:
        limits = AdmissionLimits()
        for number in range(MAX_ADDRESSES * 2):
            assert limits.enter(f"address-{number}", float(number)) is None
            limits.leave(f"address-{number}")
        assert len(limits._arrivals._recent) == MAX_ADDRESSES
        assert not limits._open
