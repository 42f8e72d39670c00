"""Every option of ``simulate``: bounds, rules between options, and the way through a file and back."""

import math
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.secagg import registry
from fedapt_secure.config.ranges import EPSILON, MAX_STEPS
from fedapt_secure.config.settings import build, read_yaml, write_yaml
from fedapt_secure.config.simulate import DEFAULT_EPSILON, SimulateSettings
from fedapt_secure.learning.data.dealing import DIGITS
from fedapt_secure.learning.data.layouts.registry import LAYOUTS
from fedapt_secure.privacy.budget import LARGEST_DELTA

NOT_THE_DEFAULT = {
    "dp_epsilon": 1.5,
    "dp_delta": 1e-06,
    "ledger": Path("ledgers"),
    "max_epsilon": 16.0,
    "no_dp": True,
    "insecure_deterministic_noise": True,
    "clients": 7,
    "institutions_per_domain": 3,
    "unsupervised": True,
    "pseudo_label_confidence": 0.5,
    "consistency_rounds": 3,
    "augmentations": ("flip", "blur"),
    "augmented_views": 2,
    "consistency_loss": "reference",
    "pseudo_label_mean": "sure",
    "transductive": True,
    "initial_context": "an image of a",
    "method": "fedprox",
    "rounds": 3,
    "local_steps": 9,
    "sample_rate": 1.0,
    "batch_size": 256,
    "local_epochs": 2,
    "learning_rate": 1e-05,
    "learning_rate_schedule": "constant",
    "gradient_units": "loss",
    "momentum": 0.0,
    "weight_decay": 1e-5,
    "proximal_weight": 0.25,
    "max_grad_norm": 0.1,
    "loss_temperature": 2.0,
    "domain_loss_weight": 0.5,
    "prior_weight": 0.25,
    "temperature": 0.5,
    "keys": "per-institution",
    "key_fusion": "add",
    "key_values": "signed",
    "context_tokens": 24,
    "shared_context": True,
    "secure_aggregation": "none",
    "participation": "one-per-domain",
    "update_clip": 1e-5,
    "model": "ViT-B-16",
    "pretrained": "007",
    "activation": "quick-gelu",
    "dataset": "folder",
    "data_root": Path("daten/Ärzte: #1"),
    "domains": ("clipart", "Real World"),
    "classes": ("mug", "bike"),
    "unseen_domain": "chalk",
    "subjects": "dicom",
    "window": (40.0, 400.0),
    "frame": "all",
    "axis": 0,
    "slice": 7,
    "max_unused": 0.5,
    "dirichlet": 0.1,
    "dirichlet_over": "clients",
    "test_share": 0.2,
    "few_shot": 16,
    "template": "ein Bild: {}",
    "cache": Path("merkmale"),
    "device": "cpu",
    "precision": "bfloat16",
    "seed": 2**63 - 1,
    "out": Path("~"),
    "engine": "ray",
    "processes": True,
    "ray_address": "192.0.2.7:6379",
    "client_cpus": 0.5,
    "client_gpus": 0.25,
    "fail": ("clinic-1@1:share", "clinic-2@2:unmask"),
}

SCHEMES = get_args(SimulateSettings.model_fields["secure_aggregation"].annotation)


def make(**fields: object) -> SimulateSettings:
    return build(SimulateSettings, fields, source="here")


def refuse(match: str, **fields: object) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        make(**fields)
    assert "\n" not in str(caught.value)


class TestRoundTrip:
    @pytest.mark.parametrize("field", SimulateSettings.model_fields)
    def test_every_option_survives_the_file(self, tmp_path: Path, field: str) -> None:
        value = NOT_THE_DEFAULT[field]
        needs = {
            "data_root": {"dataset": "folder"},
            "classes": {"dataset": "folder", "data_root": "x"},
            "dataset": {"data_root": "x"},
            "max_epsilon": {"ledger": "ledgers"},
            "subjects": {"dataset": "folder", "data_root": "x"},
            "few_shot": {"no_dp": True},
            "pseudo_label_confidence": {"unsupervised": True},
            "consistency_rounds": {"unsupervised": True, "no_dp": True},
            "augmentations": {"unsupervised": True},
            "augmented_views": {"unsupervised": True},
            "consistency_loss": {"unsupervised": True},
            "pseudo_label_mean": {"unsupervised": True, "no_dp": True},
            "transductive": {"unsupervised": True, "no_dp": True},
            "batch_size": {"no_dp": True},
            "local_epochs": {"no_dp": True, "batch_size": 8},
            "dirichlet_over": {"dirichlet": 0.5},
            "test_share": {"no_dp": True, "dataset": "folder", "data_root": "x"},
            "ray_address": {"engine": "ray"},
            "client_cpus": {"engine": "ray"},
            "client_gpus": {"engine": "ray"},
        }.get(field, {})
        given_settings = make(**{field: value}, **needs)
        assert getattr(given_settings, field) == value
        assert value != SimulateSettings.model_fields[field].default
        write_yaml(tmp_path / "config.yaml", given_settings, comment="Every option.")
        found = build(SimulateSettings, read_yaml(tmp_path / "config.yaml"), source="there")
        assert found == given_settings
        assert type(getattr(found, field)) is type(value) or isinstance(value, Path)

    def test_the_defaults_survive_the_file(self, tmp_path: Path) -> None:
        write_yaml(tmp_path / "config.yaml", SimulateSettings(), comment="Every option.")
        fields = read_yaml(tmp_path / "config.yaml")
        assert list(fields) == list(SimulateSettings.model_fields) == list(NOT_THE_DEFAULT)
        assert build(SimulateSettings, fields, source="there") == SimulateSettings()

    @settings(max_examples=50, deadline=None)
    @given(
        st.floats(EPSILON.low, EPSILON.high),
        st.floats(0, LARGEST_DELTA, exclude_min=True),
    )
    def test_numbers_survive_to_the_last_bit(self, tmp_path_factory, epsilon: float, delta: float) -> None:
        file = tmp_path_factory.getbasetemp() / "numbers.yaml"
        exact = make(dp_epsilon=epsilon, dp_delta=delta)
        write_yaml(file, exact, comment="")
        assert build(SimulateSettings, read_yaml(file), source="there") == exact


class TestBounds:
    @pytest.mark.parametrize("field", ["dp_epsilon", "learning_rate", "max_grad_norm", "update_clip"])
    @pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf, "abc"])
    def test_positive_numbers(self, field: str, value: object) -> None:
        refuse(f"^here: {field}: ", **{field: value})

    @pytest.mark.parametrize(
        "field", ["clients", "rounds", "local_steps", "context_tokens", "institutions_per_domain", "few_shot"]
    )
    @pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, "many"])
    def test_counts(self, field: str, value: object) -> None:
        refuse(f"^here: {field}: ", **{field: value})

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("dp_delta", [0, 0.0101, 1, -1e-5, math.nan, math.inf]),
            ("sample_rate", [0, 1.01, math.nan]),
            ("momentum", [-0.1, 1, math.nan]),
            ("seed", [-1, 2**63, 0.5]),
            ("secure_aggregation", ["paillier", "", None, False]),
            ("dataset", ["mnist", "Digits"]),
            ("device", ["gpu", "cuda:1"]),
            ("fail", ["clinic-1@1:share", [1]]),
            ("no_dp", ["perhaps", None]),
            ("keys", [0, -1, 1.5, True, "0", "per-domain", "²"]),
        ],
    )
    def test_the_rest(self, field: str, values: list[object]) -> None:
        for value in values:
            refuse(f"^here: {field}", **{field: value})


class TestRules:
    @pytest.mark.parametrize(
        "other", [{"dp_epsilon": 8}, {"dp_delta": 1e-5}, {"dp_epsilon": 1, "dp_delta": 1e-5}]
    )
    def test_no_privacy_and_a_budget_exclude_each_other(self, other: dict[str, float]) -> None:
        refuse("^here: no_dp and dp_epsilon .* exclude each other", no_dp=True, **other)
        make(**other)

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_how_many_institutions_a_scheme_takes(self, scheme: str) -> None:
        least, most = registry.MIN_INSTITUTIONS[scheme], registry.MAX_INSTITUTIONS[scheme]
        for clients in (least, most):
            assert make(secure_aggregation=scheme, clients=clients).clients == clients
        refuse(
            f"not {most + 1}$|{most + 1:,} is not in the range", secure_aggregation=scheme, clients=most + 1
        )
        refuse("^here: ", secure_aggregation=scheme, clients=least - 1)

    def test_two_under_masking_are_too_few(self) -> None:
        refuse("'masking' works with 3 to 4096 institutions, not 2$", clients=2)

    def test_steps_have_a_limit(self) -> None:
        make(rounds=MAX_STEPS // 4, local_steps=4)
        make(rounds=1, local_steps=MAX_STEPS)
        refuse(f"must not exceed {MAX_STEPS:,}", rounds=MAX_STEPS // 4 + 1, local_steps=4)
        refuse("must not exceed", rounds=MAX_STEPS, local_steps=MAX_STEPS)
        refuse("rounds: a number beyond", rounds=10**300, local_steps=10**300)

    @pytest.mark.parametrize("name", LAYOUTS)
    def test_a_data_set_and_its_root_go_together(self, name: str) -> None:
        make(dataset=name, data_root="x")
        refuse(f"'{name}' needs data_root", dataset=name)
        refuse("data_root goes with", data_root="x")
        refuse("data_root goes with", dataset="digits-flipped", data_root="x")

    def test_every_data_set_can_be_dealt(self) -> None:
        assert set(get_args(SimulateSettings.model_fields["dataset"].annotation)) == {*LAYOUTS, *DIGITS}

    def test_domains_are_separated_by_commas(self) -> None:
        assert make(domains="clipart, Real World,").domains == ("clipart", "Real World")
        assert make(domains="").domains == ()
        refuse("^here: domains", domains=["x" * 257])

    def test_one_number_of_institutions(self) -> None:
        refuse("exclude each other", clients=4, institutions_per_domain=2)
        make(institutions_per_domain=2)

    def test_few_shot_is_not_for_privacy(self) -> None:
        refuse("few_shot .* privacy guarantee .* no_dp .* manifest", few_shot=4)
        refuse("few_shot", few_shot=4, insecure_deterministic_noise=True)
        make(few_shot=4, no_dp=True)

    @pytest.mark.parametrize("alpha", [0, -1, 1e-7, 1e7, math.nan])
    def test_alpha_has_bounds(self, alpha: float) -> None:
        refuse("^here: dirichlet", dirichlet=alpha)

    @pytest.mark.parametrize(
        ("match", "values"),
        [
            ("leave out processes", {"engine": "ray", "processes": True}),
            ("needs client_gpus", {"engine": "ray", "device": "cuda"}),
            ("ray_address is for Ray", {"ray_address": "auto"}),
            ("client_cpus is for Ray", {"client_cpus": 1}),
            ("client_gpus is for Ray", {"client_gpus": 1}),
            (
                "ray_address: give auto or HOST:PORT of a running cluster",
                {"engine": "ray", "ray_address": "ray://192.0.2.7:10001"},
            ),
            ("ray_address: give auto or HOST:PORT", {"engine": "ray", "ray_address": "local"}),
        ],
    )
    def test_what_goes_with_ray(self, match: str, values: dict[str, object]) -> None:
        refuse(match, **values)

    def test_without_a_gpu_of_their_own_institutions_on_ray_compute_on_processors(self) -> None:
        assert make(engine="ray").institution_device == "cpu"
        assert make(engine="ray", client_gpus=0.5).institution_device == "auto"
        assert make(device="cuda").institution_device == "cuda"

    def test_epsilon(self) -> None:
        assert make().epsilon == DEFAULT_EPSILON == 8.0
        assert make(dp_epsilon=3).epsilon == 3
        assert make(dp_delta=1e-5).epsilon == DEFAULT_EPSILON
        assert make(no_dp=True).epsilon is None
