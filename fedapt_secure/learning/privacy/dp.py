"""DP-SGD on the text features: clip and add noise where a sample's gradient is small and cheap.

The loss sees the prompt only through the class weights V = logit_scale · T(P), which are the same for
all samples. So the gradient with respect to V and the adaptive network Q is made private (Abadi et al.
2016, algorithm 1) with Opacus, and pushing the noisy sum on through ∂V/∂P is post-processing: no
sample goes through the text tower. Where images have subjects, the gradients of a person's images are summed
and clipped once (McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models").
B samples, M classes, K domains, D joint embedding.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.device import CPU, FULL, gradient_bytes, in_precision
from fedapt_secure.learning.privacy.mechanism import MAX_CHUNK_RECORDS, KeystreamDPOptimizer, Mechanism
from fedapt_secure.learning.privacy.record_gradients import (
    FactoredLinear,
    factored_parameters,
    values_a_record,
)

_BYTES_PER_GRADIENT_VALUE: Final = 4 + 8 + 8  # float32 as computed, float64, and summed by unit


class SummedGradient:
    """Sum of a module's gradients of single records over a batch, private or not, divided by q·N̂.

    Args:
        module: What is differentiated; of layers that Opacus knows. Its values are replaced at each call.
        divisor: q·N̂, what the sum is divided by; never the size of a batch, which is not public.
        mechanism: Clipping and noise; ``None`` for neither.
        keystream: Source of the noise; a fresh one from the operating system by default.
        device: Where to compute.
        chunk_bytes: Bound on the memory of per-record gradients; by default what suits the device.
        max_rows: Most records at once, where something else needs memory too.

    Raises:
        InvalidInput: If the divisor is not positive.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        divisor: float,
        mechanism: Mechanism | None,
        keystream: Keystream | None = None,
        device: torch.device | None = None,
        chunk_bytes: int | None = None,
        max_rows: int = MAX_CHUNK_RECORDS,
    ) -> None:
        if not divisor > 0:
            raise InvalidInput("the sum of gradients needs a positive divisor")
        self._device = device or CPU
        self._plain = module.to(self._device)
        self._chunk_bytes = chunk_bytes or gradient_bytes(self._device)
        self._max_rows = max_rows
        self._divisor = divisor
        self._module: Any = module
        self._optimizer: KeystreamDPOptimizer | None = None
        if mechanism is not None:
            self._module = GradSampleModule(module, loss_reduction="sum")
            self._optimizer = KeystreamDPOptimizer(
                torch.optim.SGD(module.parameters(), lr=0.0),
                mechanism=mechanism,
                divisor=divisor,
                keystream=keystream or Keystream.from_operating_system(),
                factored=factored_parameters(module),
            )

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        loss: Callable[[Any, Tensor], Tensor],
        rows: int,
        batch: Batch,
    ) -> dict[str, Tensor]:
        """Return the gradient for each of the module's parameters, by name.

        Args:
            parameters: Their present values, by the module's own names.
            loss: Gives the losses of some rows, added up, from the module and their numbers (B,).
            rows: How many rows there are; 0 is a step like any other.
            batch: Which rows are one unit of privacy: where the step is private, row and record are the same.
        """
        with torch.no_grad():
            for name, parameter in self._plain.named_parameters():
                parameter.copy_(parameters[name])
        chunks = torch.split(torch.arange(rows, device=self._device), self._rows_at_once(batch))
        # Whatever precision the towers have, and whatever context we are called in: a record's gradient and
        # all that the mechanism does with it is float32 at least.
        with in_precision(FULL, self._device):
            if self._optimizer is None:
                for chunk in chunks:
                    torch.autograd.backward(loss(self._module, chunk))
                return self._taken(self._divisor)
            self._optimizer.begin(batch.sizes)
            self._private_sum(self._optimizer, loss, chunks)
            return self._taken(1.0)

    def _rows_at_once(self, batch: Batch) -> int:
        # Follows from the sizes of units, which neighbouring data sets share, and never from values.
        summed = self._optimizer is not None and len(batch.sizes) != len(batch)
        values = values_a_record(self._plain, whole=summed)
        fitting = self._chunk_bytes // (_BYTES_PER_GRADIENT_VALUE * values)
        return min(max(1, fitting), self._max_rows, MAX_CHUNK_RECORDS)

    def _private_sum(
        self,
        optimizer: KeystreamDPOptimizer,
        loss: Callable[[Any, Tensor], Tensor],
        chunks: tuple[Tensor, ...],
    ) -> None:
        for number, chunk in enumerate(chunks):
            if len(chunk):
                torch.autograd.backward(loss(self._module, chunk))
            else:  # an empty Poisson sample is a step like any other: no gradient, full noise
                optimizer.no_records()
            is_last = number == len(chunks) - 1
            optimizer.signal_skip_step(not is_last)
            optimizer.pre_step()
            if not is_last:
                optimizer.zero_grad()  # drops the chunk's per-record gradients, keeps the running sum

    def _taken(self, divisor: float) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self._plain.named_parameters():
            assert parameter.grad is not None
            found[name] = parameter.grad / divisor
        (self._optimizer or self._module).zero_grad()
        return found


class TextFeatureHeads(nn.Module):
    """Linear layers on an image feature, without bias: class logits, and domain logits where K > 0.

    Args:
        classes: M.
        domains: K; 0 for none.
        feature_size: D.
    """

    def __init__(self, classes: int, domains: int, feature_size: int) -> None:
        super().__init__()
        # Made without values: every step copies V and Q in, and drawing some would move torch's generator.
        with torch.device("meta"):
            self.classes = FactoredLinear(feature_size, classes)  # weight V, (M, D)
            self.domains = FactoredLinear(feature_size, domains) if domains else None  # Q, (K, D)
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
        divisor: q·N̂.
        mechanism: Clipping and noise; ``None`` for neither.
        keystream: Source of the noise; a fresh one from the operating system by default.
        device: Where to compute.
        chunk_bytes: Bound on the memory of per-sample gradients; by default what suits the device.
        loss_temperature: τ of the class loss, see `Examples.tempered_class_loss`.
        domain_weight: λ of the domain loss where gradients are clipped. Clipping and noise see λ times the
            gradient of Q; what is returned is divided by λ again, which is post-processing.
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
        chunk_bytes: int | None = None,
        loss_temperature: float = 1.0,
        domain_weight: float = 1.0,
    ) -> None:
        self._temperature = loss_temperature
        self._domain_weight = 1.0 if mechanism is None else domain_weight
        self._sum = SummedGradient(
            TextFeatureHeads(classes, domains, feature_size),
            divisor=divisor,
            mechanism=mechanism,
            keystream=keystream,
            device=device,
            chunk_bytes=chunk_bytes,
        )

    def __call__(
        self,
        class_weights: Tensor,
        adaptive_network: Tensor | None,
        class_features: Tensor,
        domain_features: Tensor,
        examples: Examples,
        domain_index: int,
        batch: Batch,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of the class and domain losses, summed over the rows and divided by q·N̂.

        Args:
            class_weights: V, (M, D).
            adaptive_network: Q, (K, D), where K > 0.
            class_features: What V sees, (B, D); B may be 0.
            domain_features: What Q sees, (B, D).
            examples: Their targets; B rows.
            domain_index: The institution's own domain.
            batch: Which rows are one unit of privacy, where the step is private.

        Returns:
            Gradients with respect to V, (M, D), and Q, (K, D); ``None`` for the latter where K = 0.
        """

        def loss(heads: Any, rows: Tensor) -> Tensor:
            # Opacus' hooks warn when a module's input asks for no gradient; theirs costs nothing beside it.
            inputs = (part[rows].detach().requires_grad_() for part in (class_features, domain_features))
            class_logits, domain_logits = heads(*inputs)
            total = examples.tempered_class_loss(class_logits, rows, self._temperature)
            if domain_logits is None:
                return total
            return total + self._domain_weight * examples.domain_loss(domain_logits, rows, domain_index)

        weights = {"classes.weight": class_weights}
        if adaptive_network is not None:
            weights["domains.weight"] = adaptive_network
        found = self._sum(weights, loss, len(examples), batch)
        domain_gradient = found.get("domains.weight")
        if domain_gradient is not None and self._domain_weight != 1.0:
            domain_gradient = domain_gradient / self._domain_weight
        return found["classes.weight"], domain_gradient
