"""The federated loop in memory for many seeds at once: what a search over training settings runs on.

The same computation as `federated_loop`, written for tensors that hold every institution of every seed: a
step of sixty institutions costs little more than one of five. `check` compares the two, `batched_outcome`
says what came of it. Noise is torch's own and sums are float32: nothing here is released. R = seeds x
institutions, N records at most, M classes, D joint embedding, W text width.

    python -m benchmarks.learning.batched_loop          # compares with the product's own training
"""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.learning import federated_loop
from fedapt_secure.config.learning_rate import LearningRateSchedule, rate_share
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.clip.text import PromptedText, zero_shot_text
from fedapt_secure.learning.privacy.accounting import plan_session
from fedapt_secure.privacy.budget import declared_records
from fedapt_secure.privacy.prior_weight import Contribution, prior_weight
from fedapt_secure.protocol.methods import FEDAPT, FEDCLIP, LINEAR_PROBE, LOCAL, method_facts
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

SIGMAS = Path("sigmas.json")
"""Noise multipliers that were planned before: each takes seconds."""
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """What is trained, and how; the defaults are those of `simulate`."""

    method: str = FEDAPT
    dataset: str = "digits"
    epsilon: float | None = 8.0
    rounds: int = 30
    local_steps: int = 4
    sample_rate: float = 0.5
    learning_rate: float = 3.0
    learning_rate_schedule: LearningRateSchedule = "linear"
    momentum: float = 0.0
    max_grad_norm: float = 0.5
    loss_temperature: float = 4.0
    domain_loss_weight: float = 0.3
    context_tokens: int = 16
    initial_words: str = ""

    @property
    def steps(self) -> int:
        """Of a session."""
        return self.rounds * self.local_steps


@dataclass(frozen=True)
class _Share:
    """An institution's features and labels: as they are for training, of unit norm for tests."""

    domain: int
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@cache
def _shares(dataset: str, seed: int) -> tuple[tuple[str, ...], str, int, list[_Share]]:
    dealt, sets = federated_loop.institutions(dataset, seed)

    def tensors(part: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(np.asarray(part[0])).float(), torch.as_tensor(part[1])

    def unit(part: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        features, labels = tensors(part)
        return F.normalize(features, dim=-1), labels

    shares = [
        _Share(one.domain_index, tensors(features.train), unit(features.test))
        for one, features in zip(dealt.institutions, sets, strict=True)
    ]
    return dealt.class_names, dealt.zero_shot_template, len(dealt.domains), shares


def sigma_of(epsilon: float, records: int, sample_rate: float, steps: int) -> float:
    """Return σ, from `SIGMAS` where it was planned before."""
    known = json.loads(SIGMAS.read_text()) if SIGMAS.exists() else {}
    name = f"{epsilon:g},{declared_records(records)},{sample_rate:g},{steps}"
    if name not in known:
        plan = plan_session(epsilon, None, records, sample_rate, steps)
        known = (json.loads(SIGMAS.read_text()) if SIGMAS.exists() else {}) | {name: plan.noise_multiplier}
        whole = SIGMAS.with_suffix(f".{os.getpid()}")
        whole.write_text(json.dumps(known, indent=1))
        whole.replace(SIGMAS)  # other processes read and write it as well
    return float(known[name])


class World:
    """All institutions of some seeds, as tensors.

    Args:
        setting: What is trained, and how.
        seeds: Each is a run: it decides on the split, and where ``draws`` says nothing on all else.
        draws: What decides on start, keys, sampling and noise of each run.
    """

    def __init__(self, setting: Setting, seeds: Sequence[int], draws: Sequence[int] | None = None) -> None:
        self.setting, self.seeds = setting, seeds
        self.draws = seeds if draws is None else draws
        self.backbone = load_backbone()
        dealt = [_shares(setting.dataset, seed) for seed in seeds]
        self.names, self.template, self.domains, _ = dealt[0]
        self.shares = [one[3] for one in dealt]
        self.count = len(self.shares[0])  # institutions of a seed
        flat = [share for shares in self.shares for share in shares]
        most = max(len(share.train[1]) for share in flat)
        rows, size, classes = len(flat), self.backbone.feature_size, len(self.names)
        self.plain = torch.zeros(rows, most, size)
        self.labels = torch.zeros(rows, most, classes)
        self.valid = torch.zeros(rows, most)
        declared, sigma = [], []
        for row, share in enumerate(flat):
            records = len(share.train[1])
            self.plain[row, :records] = share.train[0]
            self.labels[row, :records] = F.one_hot(share.train[1], classes).float()
            self.valid[row, :records] = 1
            declared.append(declared_records(records))
            sigma.append(self._sigma(records))
        self.features = F.normalize(self.plain, dim=-1)
        self.declared, self.sigma = declared, sigma
        self.divisor = setting.sample_rate * torch.tensor(declared)
        self.own_domain = torch.tensor([share.domain for share in flat])
        self.prior = zero_shot_text(self.backbone, self.names, self.template)
        # The same draws whatever the setting: neighbours in a table differ by what was changed.
        self.drawn = [torch.Generator().manual_seed(7919 * draw + 17) for draw in self.draws]
        shape = ParameterShape(
            classes=classes,
            context_tokens=setting.context_tokens,
            text_width=self.backbone.text_width,
            feature_size=size,
            domains=self.domains,
            class_specific=True,
            method=setting.method,
        )
        self.shape = shape
        keys = (
            np.random.default_rng([draw, 1]).random((self.domains, *shape.key), np.float32)
            for draw in self.draws
        )
        self.keys = torch.from_numpy(np.stack(list(keys)))  # (seeds, K, n_ctx, W)

    def _sigma(self, records: int) -> float:
        one = self.setting
        return 0.0 if one.epsilon is None else sigma_of(one.epsilon, records, one.sample_rate, one.steps)

    def start(self) -> Tensors:
        """Return the first parameters, (seeds, ...)."""
        words = None
        if self.setting.initial_words:
            start = initial_context(self.backbone, self.setting.initial_words)
            words = start.embeddings(self.backbone.text_width)
        drawn = [unflatten(self.shape, initial_parameters(self.shape, draw, words)) for draw in self.draws]
        return {name: torch.from_numpy(np.stack([one[name] for one in drawn])) for name in drawn[0]}

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normal noise (R, *shape), independent of the other seeds."""
        return torch.cat([torch.randn(self.count, *shape, generator=one) for one in self.drawn])

    def sampled(self) -> Tensor:
        """Return which records a step sees, (R, N)."""
        most = self.valid.shape[1]
        uniform = torch.cat([torch.rand(self.count, most, generator=one) for one in self.drawn])
        return (uniform < self.setting.sample_rate).float() * self.valid

    def clipped(self, squares: Tensor) -> Tensor:
        """Return the factors by which a step's records count, (R, N), of their squared norms."""
        kept = self.sampled()
        if self.setting.epsilon is None:
            return kept
        bound = self.setting.max_grad_norm
        return kept * (bound / squares.sqrt().clamp(min=bound))

    def private(self, total: Tensor) -> Tensor:
        """Return sums (R, ...) with noise, over qN̂."""
        over = (-1, *[1] * (total.ndim - 1))
        if self.setting.epsilon is not None:
            std = torch.tensor(self.sigma).view(over) * self.setting.max_grad_norm
            total = total + std * self.normal(total.shape[1:])
        return total / self.divisor.view(over)

    def class_errors(self, logits: Tensor) -> Tensor:
        """Return p - y at the loss' temperature, (R, N, M)."""
        return (logits / self.setting.loss_temperature).softmax(dim=-1) - self.labels

    @property
    def weight(self) -> list[float]:
        """The prior weight of each seed."""
        one, alone = self.setting, self.setting.method == LOCAL
        if one.epsilon is None:
            return [0.0] * len(self.seeds)
        values = method_facts(one.method).noisy_values(self.shape)
        every = [
            Contribution.of_noise(sigma, one.sample_rate, one.steps, declared)
            for sigma, declared in zip(self.sigma, self.declared, strict=True)
        ]
        found = []
        for first in range(0, len(every), self.count):
            some = every[first : first + (1 if alone else self.count)]
            found.append(prior_weight(some, participants=len(some), steps=one.steps, noisy_values=values))
        return found


Gradients = Callable[[Tensors], Tensors]


def _prompts(world: World) -> Gradients:
    setting = world.setting
    text = PromptedText(world.backbone, world.names, setting.context_tokens, True)
    routed = setting.method == FEDAPT
    name = "meta_prompt" if routed else "context"
    every = world.keys.repeat_interleave(world.count, 0)  # (R, K, n_ctx, W)
    own_keys = every[torch.arange(len(every)), world.own_domain]
    domains = F.one_hot(world.own_domain, world.domains).float().unsqueeze(1)  # (R, 1, K)
    private = setting.epsilon is not None
    share = setting.domain_loss_weight if private else 1.0
    seen = world.features if private else world.plain  # as the product has it, see `prompts._towards`

    def gradients(present: Tensors) -> Tensors:
        context = present[name].detach().requires_grad_()
        features = text.encode(context * (1 + own_keys.unsqueeze(1)) if routed else context)  # (R, M, D)
        logits = world.backbone.logit_scale * world.features @ features.detach().transpose(1, 2)
        errors = world.class_errors(logits)
        squares = errors.square().sum(-1)
        wrong = None
        if routed:
            scores = seen @ present["adaptive_network"].transpose(1, 2)
            wrong = share * (scores.softmax(dim=-1) - domains)
            squares = squares + wrong.square().sum(-1)
        factors = world.clipped(squares).unsqueeze(2)
        towards = world.private((factors * errors).transpose(1, 2) @ world.features)
        found = {name: torch.autograd.grad(features, context, towards)[0]}
        if wrong is not None:
            total = world.private((factors * wrong).transpose(1, 2) @ seen)
            found["adaptive_network"] = total / share
        return found

    return gradients


def _probe(world: World) -> Gradients:
    def gradients(present: Tensors) -> Tensors:
        logits = world.backbone.logit_scale * world.features @ present["classifier"].transpose(1, 2)
        errors = world.class_errors(logits)
        factors = world.clipped(errors.square().sum(-1)).unsqueeze(2)
        return {"classifier": world.private((factors * errors).transpose(1, 2) @ world.features)}

    return gradients


def adapted(present: Tensors, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return inner activations, inner output and outer activations of the adapter, each (R, N, D)."""
    inner = features @ present["adapter_in"].transpose(-1, -2) + present["adapter_in_bias"].unsqueeze(-2)
    inner = inner.detach().requires_grad_()
    hidden = inner.tanh()
    outer = hidden @ present["adapter_out"].transpose(-1, -2) + present["adapter_out_bias"].unsqueeze(-2)
    return inner, hidden, outer


def _adapter(world: World) -> Gradients:
    scale, temperature = world.backbone.logit_scale, world.setting.loss_temperature
    features = world.features

    def gradients(present: Tensors) -> Tensors:
        inner, hidden, outer = adapted(present, features)
        logits = scale * F.normalize(outer.softmax(dim=-1) * features, dim=-1) @ world.prior.T
        likely = (logits / temperature).log_softmax(dim=-1)
        loss = -temperature * (likely * world.labels).sum()
        to_inner, to_outer = torch.autograd.grad(loss, (inner, outer))
        hidden = hidden.detach()
        # The gradient of a linear layer for one record is a product of two vectors; of its bias, one of them.
        squares = to_outer.square().sum(-1) * (hidden.square().sum(-1) + 1)
        squares = squares + to_inner.square().sum(-1) * (features.square().sum(-1) + 1)
        factors = world.clipped(squares).unsqueeze(2)
        to_inner, to_outer = factors * to_inner, factors * to_outer
        sums = {
            "adapter_in": to_inner.transpose(1, 2) @ features,
            "adapter_in_bias": to_inner.sum(1),
            "adapter_out": to_outer.transpose(1, 2) @ hidden,
            "adapter_out_bias": to_outer.sum(1),
        }
        return {name: world.private(total) for name, total in sums.items()}

    return gradients


def trained(world: World) -> Tensors:
    """Return the parameters after the last round, (seeds, ...), of `local` (seeds x institutions, ...)."""
    setting, alone = world.setting, world.setting.method == LOCAL
    gradients = {LINEAR_PROBE: _probe, FEDCLIP: _adapter}.get(setting.method, _prompts)(world)
    shared = world.start()
    rounds, steps = (1, setting.steps) if alone else (setting.rounds, setting.local_steps)
    for number in range(rounds):
        present = {name: values.repeat_interleave(world.count, 0) for name, values in shared.items()}
        speed = {name: torch.zeros_like(values) for name, values in present.items()}
        for step in range(steps):
            rate = setting.learning_rate * rate_share(
                setting.learning_rate_schedule, number * steps + step, setting.steps
            )
            for name, gradient in gradients(present).items():
                speed[name] = setting.momentum * speed[name] + gradient
                present[name] = present[name] - rate * speed[name]
        if alone:
            return present
        means = {name: values.unflatten(0, (-1, world.count)).mean(1) for name, values in present.items()}
        shared = means
    return shared


def check() -> float:
    """Return the largest difference to the parameters that the product's own training ends with."""
    setting = Setting(epsilon=None, rounds=2, local_steps=2, sample_rate=1.0)
    fields = {field.name for field in dataclasses.fields(federated_loop.Trial)}
    chosen = {name: value for name, value in dataclasses.asdict(setting).items() if name in fields}
    model = federated_loop.tuned(federated_loop.Trial(**chosen, seed=20))
    found = trained(World(setting, [20, 21]))
    return max(
        float((found["meta_prompt"][0] - model.meta_prompt).abs().max()),
        float((found["adaptive_network"][0] - model.adaptive_network).abs().max()),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"largest difference to the product's own training: {check():.2g}")
