"""Gradients of single records: whole, or as the two factors of an outer product.

What a linear layer without bias learns from one record is the outer product e fᵀ of the error at its output
and the feature at its input (Goodfellow 2015, "Efficient Per-Example Gradient Computations"). So its norm is
‖e‖·‖f‖, and a weighted sum over records is one matrix product: B·(M + D) numbers in place of B·M·D. Opacus'
hooks see the factors as they see every layer's gradients. B records, M outputs, D inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from opacus.grad_sample import register_grad_sampler
from torch import Tensor, nn


class FactoredLinear(nn.Linear):
    """A linear layer without bias whose ``grad_sample`` under Opacus holds factors, (B, M + D).

    Args:
        in_features: D.
        out_features: M.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)


def factored_parameters(module: nn.Module) -> tuple[Tensor, ...]:
    """Return those of a module's parameters whose gradients of single records come as factors."""
    return tuple(layer.weight for layer in module.modules() if isinstance(layer, FactoredLinear))


@register_grad_sampler(FactoredLinear)  # type: ignore[untyped-decorator]  # Opacus has no types
def _factors(layer: FactoredLinear, features: list[Tensor], errors: Tensor) -> dict[Tensor, Tensor]:
    """Return the factors e and f beside each other, (B, M + D), of one pass.

    Raises:
        ValueError: If the layer served twice in a pass, or saw more than one row a record: the gradient is a
            sum of outer products then.
    """
    if errors.dim() != 2 or hasattr(layer.weight, "_current_grad_sample"):
        raise ValueError("a factored layer takes one row a record, once in a pass")
    return {layer.weight: torch.cat([errors, features[0]], dim=1)}


class RecordGradients(ABC):
    """One parameter's gradients of B records, float64."""

    @abstractmethod
    def norms(self) -> Tensor:
        """Return each record's norm, (B,); not finite where its gradient is not."""

    @abstractmethod
    def without(self, broken: Tensor) -> "RecordGradients":
        """Return the same with zero for those records that ``broken``, bool (B,), names."""

    @abstractmethod
    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return the sum over records, each times its weight (B,), as many values as the parameter has."""

    @abstractmethod
    def whole(self) -> Tensor:
        """Return the gradients themselves, (B, d)."""


@dataclass(frozen=True)
class WholeGradients(RecordGradients):
    """Gradients written out.

    Attributes:
        values: (B, d), float64.
    """

    values: Tensor

    def norms(self) -> Tensor:
        """Return each record's norm, (B,)."""
        return _norms(self.values)

    def without(self, broken: Tensor) -> "WholeGradients":
        """Return the same with zero for the broken records."""
        return WholeGradients(self.values.masked_fill(broken[:, None], 0.0))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return the weighted sum, (d,)."""
        return weights @ self.values

    def whole(self) -> Tensor:
        """Return the gradients themselves, (B, d)."""
        return self.values


@dataclass(frozen=True)
class OuterProducts(RecordGradients):
    """Gradients e fᵀ as their factors.

    Attributes:
        errors: e, (B, M), float64.
        features: f, (B, D), float64.
    """

    errors: Tensor
    features: Tensor

    def norms(self) -> Tensor:
        """Return ‖e‖·‖f‖, (B,): factors below 2¹²⁸ stay far from the end of float64."""
        return _norms(self.errors) * _norms(self.features)

    def without(self, broken: Tensor) -> "OuterProducts":
        """Return the same with zero for the broken records: in both factors, since 0 · NaN is NaN."""
        kept = (one.masked_fill(broken[:, None], 0.0) for one in (self.errors, self.features))
        return OuterProducts(*kept)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return (w ∘ E)ᵀ F, (M, D): one matrix product."""
        return (weights[:, None] * self.errors).T @ self.features

    def whole(self) -> Tensor:
        """Return the gradients themselves, (B, M·D): exact, products of two float32 fit a float64."""
        return (self.errors[:, :, None] * self.features[:, None, :]).flatten(1)


def record_gradients(rows: Tensor, parameter: Tensor, *, factored: bool) -> RecordGradients:
    """Return what Opacus found for a parameter, as float64.

    Args:
        rows: Its ``grad_sample``: (B, *shape), or (B, M + D) where it is factored.
        parameter: The parameter.
        factored: Whether the rows are factors.
    """
    if factored:
        return OuterProducts(*torch.split(rows.double(), list(parameter.shape), dim=1))
    return WholeGradients(rows.flatten(1).double())


def joint_norms(gradients: Sequence[RecordGradients]) -> Tensor:
    """Return each record's norm (B,) over all parameters together."""
    return _norms(torch.stack([gradient.norms() for gradient in gradients], dim=1))


def values_a_record(module: nn.Module, *, whole: bool) -> int:
    """Return how many values the gradients of one record take.

    Args:
        module: Whose.
        whole: Whether factors are multiplied out.
    """
    factors = {id(one): sum(one.shape) for one in factored_parameters(module)}
    return sum(one.numel() if whole else factors.get(id(one), one.numel()) for one in module.parameters())


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms
