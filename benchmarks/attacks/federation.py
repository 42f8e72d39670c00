"""A few rounds in memory: what each institution sends, and the sum of it that becomes known.

The trainers and the fixed-point numbers are those of a session. Masks are left out: they cancel, and the sum
is the same to the bit.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.learning.federated_loop import Trial, institutions, settings_of
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.digits.styles import STYLES
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.methods import FEDAPT, method_facts
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters

UPDATE_CLIP: Final = 4.0  # as sessions had it when docs/what-a-sum-hides.md was measured


@dataclass(frozen=True)
class Members:
    """Who takes part.

    Attributes:
        method: ``fedapt``, or another that learns a context.
        institutions: How many.
        keys: How many of the digits' domains, hence keys; institution i holds key i mod ``keys``.
        few_shot: Training images of each class that an institution keeps; ``None`` keeps all.
    """

    method: str = FEDAPT
    institutions: int = 5
    keys: int = 5
    few_shot: int | None = None


@dataclass(frozen=True)
class Round:
    """One round, n institutions.

    Attributes:
        prompt: P at its start, (M, n_ctx, W), which everybody knows.
        updates: How each institution changed P, (n, M, n_ctx·W), float64: what the sum should hide.
        total: Their sum as secure aggregation gives it, (M, n_ctx·W), float64.
    """

    prompt: Tensor
    updates: Tensor
    total: Tensor


class Federation:
    """Institutions that tune a prompt for the embedded digits on the shipped CLIP.

    Args:
        members: Who takes part.
        trial: How they train. Noise follows from its seed: nothing here is released.
    """

    def __init__(self, members: Members, trial: Trial) -> None:
        domains = tuple(STYLES)[: members.keys]
        dealt, sets = institutions(
            trial.dataset, trial.seed, None, members.institutions, domains, members.few_shot
        )
        backbone = load_backbone()
        self.shape = ParameterShape(
            classes=len(dealt.class_names),
            context_tokens=trial.context_tokens,
            text_width=backbone.text_width,
            feature_size=backbone.feature_size,
            domains=len(dealt.domains),
            method=members.method,
        )
        if not self.shape.parts[0].is_context:
            raise SystemExit(f"{members.method} learns no context: there is nothing to take apart here")
        self.text = PromptedText(backbone, dealt.class_names, trial.context_tokens)
        drawn = draw_keys(self.shape, np.random.default_rng([trial.seed, 1]))
        uses_keys = method_facts(members.method).uses_keys
        held = [one.domain_index for one in dealt.institutions]
        self.groups = tuple(held) if uses_keys else (0,) * len(held)
        """Institutions with the same number have the same key; all have, where the method has none."""
        self.own_keys = drawn[held] if uses_keys else torch.zeros_like(drawn[held])
        """The key that each institution holds, (n, n_ctx, W); zeros, which change no prompt, without keys."""
        self._fixed_point = FixedPoint(summands=members.institutions, clip=UPDATE_CLIP)
        self._start = initial_parameters(self.shape, trial.seed)
        self._trainers = [
            LocalTrainer(
                Task(
                    backbone,
                    dealt.class_names,
                    self.shape,
                    dealt.zero_shot_template,
                    drawn[one.domain_index],
                    one.domain_index,
                    settings=settings_of(trial, len(features.train[1])),
                    keystream=Keystream(bytes([trial.seed, number, trial.noise]).ljust(32, b"\0")),
                ),
                TrainingData(*features.train),
            )
            for number, (one, features) in enumerate(zip(dealt.institutions, sets, strict=True))
        ]

    def rounds(self, count: int, skipped: int = 0) -> list[Round]:
        """Return some rounds of a session, after those that are skipped.

        The loop is that of a session: the model moves by the mean of what was sent.
        """
        parameters, found = self._start, []
        for number in range(skipped + count):
            updates = [trainer.train(parameters) for trainer in self._trainers]
            words = np.zeros(self.shape.size, np.uint32)
            for update in updates:
                words += self._fixed_point.encode(update)[0]
            total = self._fixed_point.decode(words)
            context = self._context(parameters)
            if number >= skipped:
                sent = torch.stack([self._context(one).flatten(1) for one in updates])
                found.append(Round(context.float(), sent, self._context(total).flatten(1)))
            parameters = (parameters + total / len(updates)).astype(np.float32)
        return found

    def _context(self, vector: NDArray[Any]) -> Tensor:
        """Return the learned context, (M, n_ctx, W), of a flat vector, as float64."""
        part = self.shape.parts[0]
        return torch.from_numpy(vector[: part.size].astype(np.float64)).view(part.shape)


def draw_keys(shape: ParameterShape, rng: np.random.Generator) -> Tensor:
    """Return keys (K, n_ctx, W) of U[0, 1)."""
    return torch.from_numpy(rng.random((shape.domains, *shape.key), np.float32))
