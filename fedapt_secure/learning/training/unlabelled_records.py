"""An institution's training images in a session without labels: what is kept from round to round."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

import torch

from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.batches.examples import NO_LABEL
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.data.features.encoding import Progress
from fedapt_secure.learning.data.features.image_features import FeatureSet, load_features
from fedapt_secure.learning.data.reading.augmentation import Views, aligned, augmentation, view_name
from fedapt_secure.learning.data.reading.records import UNLABELLED, Record
from fedapt_secure.learning.methods.base import TrainingData
from fedapt_secure.learning.training.consistency import Bank, Consistent
from fedapt_secure.learning.training.pseudo_labels import PseudoLabelled, pseudo_labels
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.unsupervised import UnsupervisedPlan

_NONE_LEFT: Final = "these features do not say which records they belong to"


class UnlabelledRecords:
    """The training records, without their labels, and their augmented views.

    Labels that the data has are dropped before anything is made of the records; tests alone see them. Of a
    transductive session it is the records held out.

    Args:
        plan: The session.
        how: Its part about training without labels.
        backbone: The frozen CLIP.
        records: What the features were loaded for.
        features: Features of plain views.
        cache_folder: Where features of views are kept; ``None`` keeps none.
        progress: Told while views are encoded.
        reading: How DICOM and NIfTI files are read.

    Raises:
        InvalidInput: If the cache cannot be used.
    """

    def __init__(
        self,
        plan: SessionPlan,
        how: UnsupervisedPlan,
        backbone: Backbone,
        records: Sequence[Record],
        features: FeatureSet,
        cache_folder: Path | None,
        progress: Progress | None = None,
        reading: ReadingOptions = AS_THEY_ARE,
    ) -> None:
        self._plan = plan
        self._reading = reading
        self._how = how
        self._backbone = backbone
        self._test = how.transductive
        self._plain, _ = features.test if self._test else features.train
        self._subjects = None if self._test else features.train_subjects
        digests = features.digests_of(test=self._test)
        training = _training(records, features, test=self._test)
        self._views = Views(
            [
                self._view(number, training, digests, cache_folder, progress)
                for number in range(how.views if training else 0)
            ]
            or [self._plain]
        )

    def _view(
        self,
        number: int,
        training: Sequence[Record],
        digests: Sequence[bytes],
        cache_folder: Path | None,
        progress: Progress | None,
    ) -> torch.Tensor:
        names, views = self._how.augmentations, self._how.views

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(done + number * total, views * total)

        found = load_features(
            training,
            self._backbone,
            cache_folder,
            tell,
            view=view_name(names, number),
            transform=augmentation(names, self._backbone),
            reading=self._reading,
        )
        return aligned(digests, self._plain, found.digests, found.features)

    @cached_property
    def _labels(self) -> torch.Tensor:
        plan = self._plan
        return pseudo_labels(
            self._backbone, plan.class_names, plan.zero_shot_template, self._plain, self._how.confidence
        )

    @cached_property
    def _bank(self) -> Bank:
        return Bank(self._plain)

    def data(self, round_number: int) -> TrainingData:
        """Return what a round, from 1, trains on."""
        if not self._plan.is_consistency_round(round_number):
            sure = len(self._plan.class_names) if self._how.pseudo_label_mean == "sure" else None
            return PseudoLabelled(
                self._plain, self._labels, None, self._subjects, views=self._views, classes=sure
            )
        nothing = torch.full((len(self._plain),), NO_LABEL, dtype=torch.int64)
        loss = self._how.consistency_loss
        return Consistent(self._plain, nothing, bank=self._bank, views=self._views, loss=loss)


def _training(records: Sequence[Record], features: FeatureSet, *, test: bool) -> list[Record]:
    """Return the records that are trained on in the order of their features, without labels."""
    if features.record_numbers is None:
        raise ValueError(_NONE_LEFT)
    numbers = features.record_numbers[features.is_test == test].tolist()
    # What is for training stays so: a label or a split of the source is not asked again.
    return [replace(records[number], label=UNLABELLED, split="train") for number in numbers]
