"""A domain that took no part: how the finished model does on images of a kind that nobody trained on.

Leave one domain out, as papers on domain generalisation do. All images of the domain count, for none of them
was trained on (the protocol of DomainBed, Gulrajani and Lopez-Paz 2021); those that would have been held out
had the domain taken part are counted beside it, to be compared with a run in which it did.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fedapt_client.training.kept_models import MODEL_FILE
from fedapt_secure.config.reading import ReadingOptions
from fedapt_secure.config.simulate import ALL_DOMAINS, SimulateSettings
from fedapt_secure.learning.bundle import Bundle, read_bundle
from fedapt_secure.learning.clip.backbone import Backbone, choose_precision, load_backbone
from fedapt_secure.learning.clip.device import resolve_device
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.dealing import DIGITS, DealtInstitution, digit_domains
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.features.pixels import test_images, training_images
from fedapt_secure.learning.data.layouts.registry import read_domains
from fedapt_secure.learning.data.reading.records import Record, read_records
from fedapt_secure.learning.evaluation.scores import Scores, evaluate, own_features
from fedapt_secure.learning.evaluation.tally import per_class
from fedapt_secure.learning.methods.base import Classifier, Pixels
from fedapt_secure.simulate.setup.federation import Federation, deal_options
from fedapt_secure.simulate.setup.policies import cache_path

NOBODY = Scores(0, 0, 0, 0)


@dataclass(frozen=True)
class UnseenScores:
    """What was counted on a domain that took no part.

    Attributes:
        domain: Its name.
        all_images: Counts on all its images.
        held_out: Counts on those that would have been held out, had it taken part.
    """

    domain: str
    all_images: Scores
    held_out: Scores

    def to_fields(self, class_names: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, Any]:
        """Return the figures for JSON; shares are in [0, 1].

        Args:
            class_names: M names.
            keys: Names of the K keys; empty where the method knows none.
        """
        tally = self.all_images.tally
        return {
            "domain": self.domain,
            "all": _figures(self.all_images),
            "held_out": _figures(self.held_out),
            "per_class": [asdict(one) for one in per_class(tally, class_names)],
            "confusion": tally.confusion(len(class_names)).tolist(),
            "routing_counts": {name: tally.keys[key] for key, name in enumerate(keys)} if keys else None,
        }


def score_unseen(federation: Federation) -> UnseenScores | None:
    """Evaluate what a finished run made on the domain that took no part; ``None`` where there is none.

    Where each institution has a model of its own, counts are added up over the models.

    Raises:
        InvalidInput: If none of the domain's images can be used.
    """
    dataset = federation.dataset
    if dataset.unseen_domain is None:
        return None
    settings = federation.settings
    device = resolve_device(settings.device)
    precision = choose_precision(settings.precision, device, settings.model)
    backbone = load_backbone(settings.model, settings.pretrained, device, precision, settings.activation)
    bundles = [read_bundle(path) for path in _models(federation)]
    all_images, held_out = NOBODY, NOBODY
    for institution in dataset.unseen:
        images = _Images.of(federation, institution, backbone)
        for bundle in bundles:
            tested = images.score(bundle, backbone, for_tests=True)
            held_out += tested
            all_images += tested + images.score(bundle, backbone, for_tests=False)
    return UnseenScores(dataset.unseen_domain, all_images, held_out)


def domain_names(settings: SimulateSettings) -> tuple[str, ...]:
    """Return the domains that a run of these settings has; raises `InvalidInput` if there are none."""
    if settings.dataset in DIGITS:
        return digit_domains(settings.clients, deal_options(settings))
    root = settings.data_root or Path()  # the settings insist on one
    found = tuple(read_domains(settings.dataset, root, settings.domains).by_domain)
    return found[: settings.clients]


def turns(settings: SimulateSettings) -> tuple[str | None, ...]:
    """Return what each run of a row leaves out: every domain in turn, one domain, or ``None`` for nothing.

    Raises:
        InvalidInput: If there are no domains.
    """
    if settings.unseen_domain == ALL_DOMAINS:
        return domain_names(settings)
    return (settings.unseen_domain,)


def as_file_name(domain: str) -> str:
    """Return a domain's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "-", domain).strip(".-") or "domain"


def _models(federation: Federation) -> list[Path]:
    common = federation.folder.model
    if common.exists():
        return [common]
    return [federation.folder.party(name) / MODEL_FILE for name in federation.institutions]


@dataclass(frozen=True)
class _Images:
    """One share of the unseen domain."""

    records: tuple[Record, ...]
    features: FeatureSet
    reading: ReadingOptions

    @classmethod
    def of(cls, federation: Federation, institution: DealtInstitution, backbone: Backbone) -> "_Images":
        reading = federation.settings.reading
        records = read_records(institution.data, federation.dataset.class_names, reading).records
        cache = federation.folder.party(institution.name) / cache_path(federation.settings, institution.name)
        return cls(records, load_features(records, backbone, cache, reading=reading), reading)

    def score(self, bundle: Bundle, backbone: Backbone, *, for_tests: bool) -> Scores:
        features, labels = self.features.test if for_tests else self.features.train
        model = bundle.model_on(backbone)
        shape = bundle.shape
        text = PromptedText(backbone, bundle.class_names, shape.context_tokens, shape.class_specific)
        return evaluate(
            model,
            text.zero_shot(bundle.zero_shot_template),
            features,
            labels,
            (),  # none of the keys is its own
            self._own(model, labels, for_tests) if model.changes_image_tower else None,
        )

    def _own(self, model: Classifier, labels: torch.Tensor, for_tests: bool) -> torch.Tensor:
        images = test_images if for_tests else training_images
        pixels: Pixels = images(self.records, self.features, model.backbone, self.reading)
        return own_features(model, pixels, len(labels))


def _figures(scores: Scores) -> Mapping[str, Any]:
    return {
        "images": scores.test_records,
        "zero_shot": scores.zero_shot_accuracy,
        "top_1": scores.tuned_accuracy,
        "top_5": scores.tally.top_5_accuracy,
    }
