"""An institution's settings: when to vanish, and nothing that the coordinator could loosen."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedapt_client.settings import ClientSettings, parse_vanish
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.config.settings import build, read_yaml, write_yaml

LEAST = {"name": "clinic-1", "port": 8443, "data": "images"}


class TestParseVanish:
    @given(st.integers(1, 10**9 - 1), st.sampled_from(Phase))
    def test_round_and_phase(self, number: int, phase: Phase) -> None:
        parsed = parse_vanish(f"{number}:{phase.value}")
        assert parsed == (number, phase)
        assert isinstance(parsed[1], Phase)

    @pytest.mark.parametrize(
        "entry", ["", ":", ":share", "0:share", "-1:share", "1.5:share", " 1:share", "x:share"]
    )
    def test_a_round_that_is_none(self, entry: str) -> None:
        with pytest.raises(ValueError, match="expected ROUND:PHASE with a round from 1") as caught:
            parse_vanish(entry)
        assert repr(entry) in str(caught.value)

    @pytest.mark.parametrize(
        "entry", ["1", "1:", "1:SHARE", "1:share ", "1:share:share", "1:MASKED_INPUT", "2:mask"]
    )
    def test_a_phase_that_is_none(self, entry: str) -> None:
        with pytest.raises(ValueError, match="unknown phase") as caught:
            parse_vanish(entry)
        assert all(phase.value in str(caught.value) for phase in Phase), "the message lists what there is"

    @given(st.text(max_size=12))
    def test_whatever_else_is_typed_is_quoted_in_the_refusal(self, entry: str) -> None:
        number, _, phase = entry.partition(":")
        assume(not (number.isdecimal() and phase in set(Phase)))
        with pytest.raises(ValueError, match=re.escape(repr(entry))):
            parse_vanish(entry)


class TestClientSettings:
    def test_protection_is_on_unless_switched_off(self) -> None:
        settings = build(ClientSettings, LEAST, source="client.yaml")
        assert (settings.policy, settings.ledger) == (Path("policy.yaml"), Path("ledger.sqlite"))
        assert not settings.insecure_deterministic_noise
        assert settings.dp_epsilon is None, "what the policy allows one session"
        assert settings.dp_delta is None

    def test_insecure_noise_is_off_and_needs_a_seed(self) -> None:
        assert not build(ClientSettings, LEAST, source="x").insecure_deterministic_noise
        with pytest.raises(InvalidInput, match="insecure_deterministic_noise needs experiment_seed"):
            build(ClientSettings, LEAST | {"insecure_deterministic_noise": True}, source="x")

    @pytest.mark.parametrize("missing", sorted(LEAST))
    def test_what_has_no_default_must_be_given(self, missing: str) -> None:
        fields = {key: value for key, value in LEAST.items() if key != missing}
        with pytest.raises(InvalidInput, match=f"client.yaml: {missing}: Field required"):
            build(ClientSettings, fields, source="client.yaml")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("name", ""),
            ("name", "../clinic"),
            ("name", "clinic 1"),
            ("name", ".hidden"),
            ("name", "clinic-1\n"),
            ("name", "x" * 65),
            ("port", 0),
            ("port", 65536),
            ("device", "cuda:0"),
            ("device", "cpu "),
            ("precision", "float16"),
            ("dp_epsilon", 0),
            ("dp_epsilon", float("nan")),
            ("dp_epsilon", float("inf")),
            ("dp_delta", 0),
            ("dp_delta", 0.011),
            ("dp_delta", float("nan")),
            ("require_differential_privacy", False),
            ("minimum_participants", 2),
            ("vanish_at", ["1:share", "1:nope"]),
            ("vanish_at", "1:share"),
        ],
    )
    def test_a_value_out_of_bounds_is_refused_by_name(self, key: str, value: object) -> None:
        with pytest.raises(InvalidInput, match=rf"client\.yaml: (unknown option .)?{key}") as caught:
            build(ClientSettings, LEAST | {key: value}, source="client.yaml")
        assert "\n" not in str(caught.value)

    def test_frozen(self) -> None:
        settings = build(ClientSettings, LEAST, source="client.yaml")
        with pytest.raises(ValueError, match="frozen"):
            settings.dp_epsilon = 100.0
        assert settings.dp_epsilon is None

    def test_a_file_gives_back_what_was_written(self, tmp_path: Path) -> None:
        fields = LEAST | {
            "host": "coordinator.example",
            "enrolment_port": 9444,
            "answer_within_s": 45.0,
            "proxy": "http://proxy.example:3128",
            "device": "cpu",
            "precision": "float32",
            "dp_epsilon": 1.25,
            "dp_delta": 1e-7,
            "policy": "our-policy.yaml",
            "ledger": "/srv/ledgers/ours.sqlite",
            "cache": "/srv/features",
            "experiment_seed": 3,
            "insecure_deterministic_noise": True,
            "log": "logs/über.jsonl",
            "log_continues": f"{'0a' * 16}:17:{'1b' * 32}",
            "fixed_answer_time": False,
            "answer_rehearsals": False,
            "vanish_at": ["1:share", "3:unmask"],
            "subjects": "dicom",
            "reading": {"window": [40.0, 400.0], "frame": 3, "axis": 0, "slice": "middle"},
            "notify": {"command": ["tell", "us"], "webhook": "https://x.example/y", "on": ["offer", "end"]},
            "page": "10.0.0.7:8460",
            "page_certificate": "page.crt",
            "page_key": "/srv/page.key",
            "page_allow": ["10.1.0.0/16"],
            "page_names": ["page.example.org"],
            "page_confined": False,
        }
        assert fields.keys() == ClientSettings.model_fields.keys()
        settings = build(ClientSettings, fields, source="x")
        write_yaml(tmp_path / "client.yaml", settings, comment="The institution's settings.")
        assert build(ClientSettings, read_yaml(tmp_path / "client.yaml"), source="x") == settings
