"""What an institution does with its own images: features, training under its budget, evaluation.

With `fetch` and `bundles` all of the client that touches torch, imported when it is needed.
"""

import hashlib
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedapt_client.books.fingerprints import KnownImage
from fedapt_client.settings import ClientSettings
from fedapt_client.training.encoding_watch import Progress
from fedapt_client.training.kept_models import KeptModels
from fedapt_client.training.session_model import make_bundle, session_backbone
from fedapt_client.training.space import check_space
from fedapt_crypto.kdf import digest
from fedapt_crypto.keystream import Keystream
from fedapt_secure.config.key_use import KeyUse
from fedapt_secure.learning.batches.sampling import most_sampled, steps_of_passes
from fedapt_secure.learning.bundle import encode_bundle
from fedapt_secure.learning.clip.device import resident
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.data.features.pixels import test_images, training_images
from fedapt_secure.learning.data.reading.listing import LeftOut
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.learning.data.reading.records import UNLABELLED, read_records, read_unlabelled
from fedapt_secure.learning.data.reading.unused import unused_files, usage
from fedapt_secure.learning.evaluation.scores import Scores, evaluate, own_features
from fedapt_secure.learning.methods.base import Classifier, Pixels, Task, TrainingData
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_session
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.learning.training.plan_check import check_plan
from fedapt_secure.learning.training.unlabelled_records import UnlabelledRecords
from fedapt_secure.privacy.budget import PrivacyBudget, PrivacyPlan, SessionShare, declared_records
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.reasons import Reason, told_as
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class Concluded:
    """The finished bundle's hash and what the model scored at home, on test images that have a label."""

    bundle_hash: bytes
    path: Path
    scores: Scores
    unlabelled: int = 0


class Learner:
    """One institution's data and training for one session.

    Args:
        settings: The institution's settings.
        folder: Its folder.
        configuration: The session.
        share: The ε and δ that the session may plan.
        progress: Told while images are encoded.
        patient_key: Under which PatientIDs become subjects, where the settings ask for that.

    Raises:
        InvalidInput: If model, images or budget do not fit the session.

    Attributes:
        unused: Every file that is not used, copies among them, and why; for this institution's own people.
        usage: How much of the source is used.
    """

    def __init__(
        self,
        settings: ClientSettings,
        folder: Path,
        configuration: SessionConfiguration,
        share: SessionShare,
        progress: Progress | None = None,
        patient_key: bytes | None = None,
    ) -> None:
        plan = configuration.plan
        self._settings = settings
        self._folder = folder
        self._configuration = configuration
        self._key_index = configuration.key_index(settings.name)
        with told_as(Reason.MODEL_MISSING):
            self._backbone = session_backbone(configuration, settings.device, settings.precision)
        check_plan(plan, self._backbone)
        data = settings.data if settings.data.is_absolute() else folder / settings.data
        read = read_records if plan.unsupervised is None else read_unlabelled
        with told_as(Reason.DATA_UNREADABLE):
            records = read(data, plan.class_names, settings.reading, people_of(settings, patient_key))
            self._records = records.records
            unused = unused_files(data, records, labelled=plan.unsupervised is None)
            self._features: FeatureSet = load_features(
                records.records,
                self._backbone,
                folder / settings.cache,
                progress,
                reading=settings.reading,
            )
        self.unused = (*unused, *(LeftOut(one.name, one.reason) for one in self._features.skipped))
        self.usage = usage(data, records, unused, self.unused[len(unused) :])
        self._unlabelled: UnlabelledRecords | None = None
        if plan.unsupervised is not None:
            self._unlabelled = UnlabelledRecords(
                plan,
                plan.unsupervised,
                self._backbone,
                records.records,
                self._features,
                folder / settings.cache,
                progress,
                settings.reading,
            )
        units = self._training_data(1).units(private=plan.differential_privacy)
        with told_as(Reason.TOO_FEW_RECORDS):
            self.declared_records = declared_records(len(units))
        self.privacy_plan: PrivacyPlan | None = None
        if plan.differential_privacy:
            self.privacy_plan = plan_session(
                share.epsilon,
                share.delta_for(self.declared_records),
                len(units),
                plan.sample_rate,
                configuration.planned_steps(settings.name),
                units.kind,
            )

    @property
    def images(self) -> tuple[KnownImage, ...]:
        """By what each training image is known, for the ledger alone."""
        return tuple(KnownImage(one.files, one.pixels) for one in self._features.train_pictures)

    @property
    def subjects(self) -> tuple[str, ...] | None:
        """Whose image each training record is, where the data says so; for the ledger alone."""
        return self._features.train_subjects

    @property
    def duplicates(self) -> Duplicates:
        """How many files are no records of their own; for this institution's own people alone."""
        return self._features.duplicates

    @property
    def lacking(self) -> tuple[str, ...]:
        """The session's classes of which there is no image here, where labels are needed."""
        if self._unlabelled is not None:
            return ()
        there = {record.label for record in self._records}
        names = enumerate(self._configuration.plan.class_names)
        return tuple(name for number, name in names if number not in there)

    @property
    def split(self) -> tuple[int, int]:
        """How many images are for training, and how many are held out."""
        held_out = int(self._features.is_test.sum())
        return len(self._features.is_test) - held_out, held_out

    @property
    def cache_bytes(self) -> int:
        """What the images' features take on disk."""
        return self._features.features.numel() * self._features.features.element_size()

    def time_of_encoding(self, most: int) -> float:
        """Return how long encoding an image takes, in seconds, by so many that can be used; none is kept."""
        assert self._features.record_numbers is not None
        records = [self._records[number] for number in self._features.record_numbers[:most].tolist()]
        began = time.perf_counter()
        load_features(records, self._backbone, None, reading=self._settings.reading)
        return (time.perf_counter() - began) / len(records)

    def _training_data(self, round_number: int) -> TrainingData:
        if self._unlabelled is not None:
            return self._unlabelled.data(round_number)
        return self._labelled

    @cached_property
    def _labelled(self) -> TrainingData:
        features, labels = self._features.train
        # Onto the GPU once, where there is room: otherwise each step would send its records again.
        placed = resident(features, self._backbone.device)
        return TrainingData(placed, labels.to(placed.device), self._training_images, self.subjects)

    @cached_property
    def _training_images(self) -> Pixels | None:
        """The training images; ``None`` where their features are all that the method needs."""
        if self._configuration.plan.tower_values == 0:
            return None
        return training_images(self._records, self._features, self._backbone, self._settings.reading)

    @property
    def _steps(self) -> int:
        """How many steps this institution takes in a round: with passes in batches, as its records make."""
        plan = self._configuration.plan
        if plan.batch_size is None:
            return plan.local_steps
        return steps_of_passes(len(self._training_data(1).labels), plan.batch_size, plan.local_epochs)

    def _test_images(self) -> Pixels:
        return test_images(self._records, self._features, self._backbone, self._settings.reading)

    def budget(self, steps_spent: int) -> PrivacyBudget | None:
        """Return the session's budget with what the ledger says is spent; ``None`` without DP."""
        if self.privacy_plan is None:
            return None
        return PrivacyBudget(self.privacy_plan, epsilon_of, steps_spent=steps_spent)

    def check_possible(self) -> float:
        """Do all that a round and the end of the session do, on empty records: whatever is wrong shows now.

        Texts, shapes and noise are those of a round, with the first model, a key of zeros, and as many
        records in the step's batch as no batch of a session has (`most_sampled`, and the persons with the
        most images). No image is used, and nothing of it is kept.

        Returns:
            How long a round's steps take at most, by this one, in seconds.

        Raises:
            InvalidInput: If the plan cannot be trained, or its model not be kept.
            Unavailable: If there is too little room on the disk.
        """
        check_space(self._folder, self._configuration)
        plan, shape = self._configuration.plan, self._configuration.plan.shape
        model, key = plan.initial_model(), np.zeros(shape.key, np.float32)
        with told_as(Reason.PLAN_IMPOSSIBLE):
            self._one_large_step(key, model)  # the first one also starts up what a machine starts up
            to_begin_s, a_step_s = self._one_large_step(key, model)
            zero_shot_text(self._backbone, plan.class_names, plan.zero_shot_template)
            make_bundle(self._configuration, self._backbone, model, (key,) * shape.domains)
        return to_begin_s + self._steps * a_step_s

    def _one_large_step(self, key: Vector, model: Vector) -> tuple[float, float]:
        """Train one step on the largest batch, and return how long beginning and step took, in seconds."""
        began = time.perf_counter()
        task = self._task(key, Keystream.from_operating_system())
        largest = replace(task.settings, local_steps=1)
        if (
            not self._configuration.plan.tower_values
        ):  # one of those is minutes of work: as large as any other
            largest = replace(largest, sample_rate=1.0, batch_size=None)
        trainer = LocalTrainer(replace(task, settings=largest), self._largest_batch)
        begun = time.perf_counter()
        trainer.train(model)
        return begun - began, time.perf_counter() - begun

    @cached_property
    def _largest_batch(self) -> TrainingData:
        """Records as many as no batch of a session has, features of zeros, the first class as label."""
        plan, real = self._configuration.plan, self._training_data(1)
        if plan.tower_values or real.couples_records:
            return real  # never private: there is no budget that could be lost
        units = real.units(private=plan.differential_privacy)
        most = most_sampled(len(units), plan.sample_rate)
        if plan.batch_size is not None:
            most = min(len(units), plan.batch_size)
        records = units.largest_batch(most).records
        subjects = None if real.subjects is None else tuple(real.subjects[int(one)] for one in records)
        labels = torch.zeros(len(records), dtype=torch.int64, device=real.labels.device)
        features = torch.zeros_like(real.features[: len(records)])
        return TrainingData(features, labels, None, subjects)

    def train(self, parameters: Vector, domain_key: Vector, round_number: int) -> Vector:
        """Return this institution's update, local minus round-start parameters, noised under DP."""
        keystream = self._repeatable(round_number) or Keystream.from_operating_system()
        task = self._task(domain_key, keystream)
        return LocalTrainer(task, self._training_data(round_number)).train(parameters, round_number)

    def _task(self, domain_key: Vector, keystream: Keystream) -> Task:
        plan = self._configuration.plan
        private = self.privacy_plan is not None
        settings = TrainingSettings(
            declared_records=self.declared_records,
            private=private,
            noise_multiplier=self.privacy_plan.noise_multiplier if self.privacy_plan else None,
            rounds=plan.rounds,
            local_steps=self._steps,
            sample_rate=plan.sample_rate,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            learning_rate_schedule=plan.learning_rate_schedule,
            gradient_units=plan.gradient_units,
            momentum=plan.momentum,
            max_grad_norm=plan.max_grad_norm,
            loss_temperature=plan.loss_temperature,
            domain_loss_weight=plan.domain_loss_weight,
            weight_decay=plan.weight_decay,
            proximal_weight=plan.proximal_weight,
        )
        return Task(
            backbone=self._backbone,
            class_names=plan.class_names,
            shape=plan.shape,
            template=plan.zero_shot_template,
            key=torch.from_numpy(domain_key.copy()).to(self._backbone.device),
            domain_index=self._key_index,
            settings=settings,
            keystream=keystream,
            key_use=KeyUse(plan.key_fusion, plan.key_values),
        )

    def _repeatable(self, round_number: int) -> Keystream | None:
        """Return the stream of an experiment that is to be repeated; ``None`` wherever privacy counts."""
        settings, private = self._settings, self.privacy_plan is not None
        if settings.experiment_seed is None or (private and not settings.insecure_deterministic_noise):
            return None
        purpose = "insecure deterministic noise" if private else "experiment sampling"
        return Keystream(digest(purpose, settings.experiment_seed, settings.name, round_number))

    def conclude(self, model: Vector, keys: tuple[Vector, ...]) -> Concluded:
        """Store the finished bundle in the party's folder and evaluate it on the images held out."""
        bundle = make_bundle(self._configuration, self._backbone, model, keys)
        data = encode_bundle(bundle)
        path = KeptModels(self._folder).keep(self._configuration.session.hex(), data)
        scores = self.score(bundle.model_on(self._backbone))
        unlabelled = int((self._features.test[1] == UNLABELLED).sum())
        return Concluded(hashlib.sha256(data).digest(), path, scores, unlabelled)

    def score(self, model: Classifier) -> Scores:
        """Return how a finished model does on the images held out here, as far as they have a label."""
        plan, (features, labels) = self._configuration.plan, self._features.test
        if plan.unsupervised is not None:  # otherwise each has one
            features, labels = features[labels != UNLABELLED], labels[labels != UNLABELLED]
        return evaluate(
            model,
            zero_shot_text(self._backbone, plan.class_names, plan.zero_shot_template),
            features,
            labels,
            self._configuration.own_keys(self._settings.name),
            own_features(model, self._test_images(), len(labels)) if model.changes_image_tower else None,
        )


def scores_to_fields(scores: Scores) -> dict[str, Any]:
    """Return scores as plain counts; they stay in the institution's own folder."""
    return {
        "test_records": scores.test_records,
        "zero_shot_correct": scores.zero_shot_correct,
        "tuned_correct": scores.tuned_correct,
        "routed_correct": scores.routed_correct,
        "correct_by_routing": dict(scores.correct_by_routing),
        "zero_shot_by_class": [[label, count] for label, count in sorted(scores.zero_shot_by_class.items())],
        **scores.tally.to_fields(),
    }


def people_of(settings: ClientSettings, patient_key: bytes | None) -> PatientKey | None:
    """Return what makes subjects out of PatientIDs; ``None`` where the settings do not ask for that."""
    if settings.subjects is None:
        return None
    if patient_key is None:
        raise ValueError("subjects are to come from DICOM headers, and there is no key for them")
    return PatientKey(patient_key)
