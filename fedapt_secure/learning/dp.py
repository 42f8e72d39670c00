"""DP-SGD on the text features: clip and add noise where a sample's gradient is small and cheap.

The loss sees the prompt only through the class weights V = logit_scale · T(P), which are the same for
all samples. So the gradient with respect to V and the adaptive network Q is made private (Abadi et al.
2016, algorithm 1) with Opacus, and pushing the noisy sum on through ∂V/∂P is post-processing: no
sample goes through the text tower. B samples, M classes, K domains, D joint embedding.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from opacus import GradSampleModule
from torch import Tensor, nn

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.mechanism import MAX_CHUNK_RECORDS, KeystreamDPOptimizer, Mechanism

CHUNK_BYTES: Final = 256 << 20
"""Upper bound on the memory of one chunk's per-sample gradients."""
_BYTES_PER_GRADIENT_VALUE: Final = 4 + 8  # float32 as computed, float64 as summed


class TextFeatureHeads(nn.Module):
    """Linear layers on an image feature, without bias: class logits, and domain logits where K > 0."""

    def __init__(self, classes: int, domains: int, feature_size: int) -> None:
        super().__init__()
        # Made without values: every step copies V and Q in, and drawing some would move torch's generator.
        with torch.device("meta"):
            self.classes = nn.Linear(feature_size, classes, bias=False)  # weight V, (M, D)
            self.domains = nn.Linear(feature_size, domains, bias=False) if domains else None  # Q, (K, D)
        self.to_empty(device="cpu")

    def forward(self, class_features: Tensor, domain_features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return class logits (B, M) and domain logits (B, K) of features (B, D)."""
        return self.classes(class_features), None if self.domains is None else self.domains(domain_features)


class TextFeatureGradient:
    """Gradient of the local loss with respect to V and Q over one batch, private or not.

    Args:
        classes: M.
        domains: K; 0 where there is no adaptive network.
        feature_size: D.
        divisor: q·N̂, what the sum is divided by; never the size of a batch, which is not public.
        mechanism: Clipping and noise; ``None`` for neither.
        keystream: Source of the noise; a fresh one from the operating system by default.
        device: Where to compute.
        chunk_bytes: Bound on the memory of per-sample gradients.
    """

    def __init__(
        self,
        *,
        classes: int,
        domains: int,
        feature_size: int,
        divisor: float,
        mechanism: Mechanism | None,
        keystream: Keystream | None = None,
        device: torch.device | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        if not divisor > 0:
            raise InvalidInput("the sum of gradients needs a positive divisor")
        self._heads = TextFeatureHeads(classes, domains, feature_size).to(device or torch.device("cpu"))
        fitting = chunk_bytes // (_BYTES_PER_GRADIENT_VALUE * (classes + domains) * feature_size)
        self._chunk = min(max(1, fitting), MAX_CHUNK_RECORDS)
        self._divisor = divisor
        self._module: Any = self._heads
        self._optimizer: KeystreamDPOptimizer | None = None
        if mechanism is not None:
            self._module = GradSampleModule(self._heads, loss_reduction="sum")
            self._optimizer = KeystreamDPOptimizer(
                torch.optim.SGD(self._heads.parameters(), lr=0.0),
                mechanism=mechanism,
                divisor=divisor,
                keystream=keystream or Keystream.from_operating_system(),
            )

    def __call__(
        self,
        class_weights: Tensor,
        adaptive_network: Tensor | None,
        class_features: Tensor,
        domain_features: Tensor,
        labels: Tensor,
        domain_index: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of both cross-entropies, summed over the batch and divided by q·N̂.

        Args:
            class_weights: V, (M, D).
            adaptive_network: Q, (K, D), where K > 0.
            class_features: What V sees, (B, D); B may be 0.
            domain_features: What Q sees, (B, D).
            labels: Class indices, (B,).
            domain_index: The institution's own domain.

        Returns:
            Gradients with respect to V, (M, D), and Q, (K, D); ``None`` for the latter where K = 0.
        """
        with torch.no_grad():
            self._heads.classes.weight.copy_(class_weights)
            if self._heads.domains is not None and adaptive_network is not None:
                self._heads.domains.weight.copy_(adaptive_network)
        chunks = zip(
            torch.split(class_features, self._chunk),
            torch.split(domain_features, self._chunk),
            torch.split(labels, self._chunk),
            strict=True,
        )
        summed = self._plain_sum if self._optimizer is None else self._private_sum
        return summed(list(chunks), domain_index)

    def _backward(self, chunk: tuple[Tensor, Tensor, Tensor], domain_index: int) -> None:
        # Opacus' hooks warn when a module's input asks for no gradient; theirs costs nothing next to Opacus.
        class_features, domain_features = (part.detach().requires_grad_() for part in chunk[:2])
        labels = chunk[2]
        class_logits, domain_logits = self._module(class_features, domain_features)
        loss = F.cross_entropy(class_logits, labels, reduction="sum")
        if domain_logits is not None:
            domains = torch.full_like(labels, domain_index)
            loss = loss + F.cross_entropy(domain_logits, domains, reduction="sum")
        torch.autograd.backward(loss)

    def _private_sum(
        self, chunks: list[tuple[Tensor, Tensor, Tensor]], domain_index: int
    ) -> tuple[Tensor, Tensor | None]:
        optimizer = self._optimizer
        assert optimizer is not None
        for number, chunk in enumerate(chunks):
            if len(chunk[0]):
                self._backward(chunk, domain_index)
            else:  # an empty Poisson sample is a step like any other: no gradient, full noise
                for parameter in optimizer.params:
                    parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
            is_last = number == len(chunks) - 1
            optimizer.signal_skip_step(not is_last)
            optimizer.pre_step()
            if not is_last:
                optimizer.zero_grad()  # drops the chunk's per-sample gradients, keeps the running sum
        return self._take_gradients(1.0, optimizer)

    def _plain_sum(
        self, chunks: list[tuple[Tensor, Tensor, Tensor]], domain_index: int
    ) -> tuple[Tensor, Tensor | None]:
        for chunk in chunks:
            self._backward(chunk, domain_index)
        return self._take_gradients(self._divisor, self._module)

    def _take_gradients(self, divisor: float, owner: Any) -> tuple[Tensor, Tensor | None]:
        heads = (self._heads.classes, self._heads.domains)
        taken = [None if head is None or head.weight.grad is None else head.weight.grad for head in heads]
        class_gradient, domain_gradient = (None if one is None else one / divisor for one in taken)
        assert class_gradient is not None
        owner.zero_grad()
        return class_gradient, domain_gradient
