"""What the runs of `batched_loop` reached: accuracy at each prior weight, and at the one that follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.learning.batched_loop import Setting, Tensors, World, adapted, trained
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.fedapt import routing_weights
from fedapt_secure.learning.methods.prior import Prior
from fedapt_secure.protocol.methods import FEDAPT, FEDCLIP, LINEAR_PROBE, LOCAL

WEIGHTS = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True)
class Outcome:
    """What a run reached.

    Attributes:
        accuracy: By prior weight, in per cent, mean over domains (`local`: and over models).
        weight: The prior weight that follows from the public figures.
        routing: Share of test images that go to the right domain, in per cent; 0 without routing.
        zero_shot: Accuracy without training.
    """

    accuracy: dict[float, float]
    weight: float
    routing: float
    zero_shot: float

    @property
    def at_weight(self) -> float:
        """Accuracy at the weight that follows, between the two nearest of the grid."""
        return float(np.interp(self.weight, list(self.accuracy), list(self.accuracy.values())))


def run(setting: Setting, seeds: Sequence[int]) -> list[Outcome]:
    """Return the outcome of each seed."""
    world = World(setting, seeds)
    parameters = trained(world)
    return [outcome_of(world, parameters, place) for place in range(len(seeds))]


@torch.no_grad()
def outcome_of(world: World, parameters: Tensors, place: int) -> Outcome:
    shares, alone = world.shares[place], world.setting.method == LOCAL
    models = range(place * world.count, (place + 1) * world.count) if alone else [place]
    accuracy: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    right: list[float] = []
    for model in models:
        own = {name: values[model] for name, values in parameters.items()}
        for weight, answers in _answers(world, own, place).items():
            accuracy[weight] += [
                100 * _share_right(answers[at] == share.test[1]) for at, share in enumerate(shares)
            ]
        if "adaptive_network" in own:
            right += [
                _share_right(
                    routing_weights(share.test[0], own["adaptive_network"]).argmax(1) == share.domain
                )
                for share in shares
            ]
    untuned = [(share.test[0] @ world.prior.T).argmax(1) == share.test[1] for share in shares]
    return Outcome(
        accuracy={weight: mean(values) for weight, values in accuracy.items()},
        weight=world.weight[place],
        routing=100 * mean(right) if right else 0.0,
        zero_shot=100 * mean(_share_right(one) for one in untuned),
    )


def _share_right(right: Tensor) -> float:
    return float(right.float().mean())


def _answers(world: World, own: Tensors, place: int) -> dict[float, list[Tensor]]:
    """Return by prior weight the classes that a model gives the test images of each institution."""
    shares = world.shares[place]
    found: dict[float, list[Tensor]] = {}
    for weight in WEIGHTS:
        prior = Prior(world.prior, weight)
        if world.setting.method == FEDCLIP:
            found[weight] = []
            for share in shares:
                seen = share.test[0]
                _, _, outer = adapted({name: one[None] for name, one in own.items()}, seen[None])
                changed = F.normalize(outer[0].softmax(dim=-1) * seen, dim=-1)
                mixture = (1 - weight) * changed + weight * seen
                found[weight].append((mixture @ world.prior.T).argmax(1))
            continue
        if world.setting.method == LINEAR_PROBE:
            texts = prior.mixed_weights(own["classifier"]).unsqueeze(0)
        else:
            texts = prior.mixed(_texts(world, own, place))
        found[weight] = []
        for share in shares:
            chosen = torch.zeros(len(share.test[1]), dtype=torch.int64)
            if "adaptive_network" in own:
                chosen = routing_weights(share.test[0], own["adaptive_network"]).argmax(1)
            found[weight].append(torch.einsum("bd,bmd->bm", share.test[0], texts[chosen]).argmax(1))
    return found


def _texts(world: World, own: Tensors, place: int) -> Tensor:
    text = PromptedText(world.backbone, world.names, world.setting.context_tokens, True)
    if world.setting.method == FEDAPT:
        return text.encode(own["meta_prompt"].unsqueeze(0) * (1 + world.keys[place].unsqueeze(1)))
    return text.encode(own["context"].unsqueeze(0))
