"""What a finished model computes, as modules that can be traced: from pixels to logits and domain.

Most images need nothing but the image tower and text features that are the same for all. Some need prompts
of their own: with CoCoOp every image, with FedAPT those between two keys. These go through the text tower
one by one, so that this part has fixed sizes and its cost is paid only for them.

B images, M classes, K keys, D joint embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.export.clip_facts import changed_tower
from fedapt_secure.learning.methods.base import Classifier, FixedText, cosine_logits
from fedapt_secure.learning.methods.cocoop import OwnPrompts
from fedapt_secure.learning.methods.fedapt import ONE_HOT, FedAptModel
from fedapt_secure.learning.methods.fedclip import AdaptedFeatures
from fedapt_secure.learning.methods.image_tower import ChangedTower

LOGITS: Final = "logits"
PROBABILITIES: Final = "probabilities"
DOMAIN: Final = "domain"
WEIGHTS: Final = "domain_weights"
FEATURES: Final = "features"
OWN: Final = "own"
"""Which images need prompts of their own: booleans, (B,)."""


class Shared(nn.Module):
    """From pixels (B, 3, H, W) to what is the same computation for every image.

    Args:
        names: What `forward` returns, in order.
        encode: Gives image features (B, D).
        head: Gives the named values of features (B, D).
    """

    def __init__(
        self,
        names: tuple[str, ...],
        encode: Callable[[Tensor], Tensor],
        head: Callable[[Tensor], dict[str, Tensor]],
    ) -> None:
        super().__init__()
        self.names = names
        self._encode = encode
        self._head = head

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the values that `names` lists."""
        found = self._head(self._encode(pixels))
        return tuple(found[name] for name in self.names)


class Own(nn.Module):
    """Logits (1, M) of one image with prompts of its own.

    Args:
        names: Which values of `Shared` it takes, one row of each.
        logits: What it computes of them.
    """

    def __init__(self, names: tuple[str, ...], logits: Callable[..., Tensor]) -> None:
        super().__init__()
        self.names = names
        self._logits = logits

    def forward(self, *rows: Tensor) -> Tensor:
        """Return logits (1, M) of one row each of the values that `names` lists."""
        return self._logits(*rows)


@dataclass(frozen=True)
class Graph:
    """A finished model as one or two modules.

    Attributes:
        shared: What is computed for every image.
        own: What is computed for those that need prompts of their own; ``None`` where none ever does.
        size: H and W of the pixels.
        row_sizes: Sizes of one row of each value that ``own`` takes.
    """

    shared: Shared
    own: Own | None
    size: tuple[int, int]
    row_sizes: tuple[int, ...] = ()


def graph_of(classifier: Classifier, size: tuple[int, int]) -> Graph:
    """Return what a classifier computes.

    Args:
        classifier: On the CPU, in float32.
        size: H and W of the pixels that its CLIP takes.

    Raises:
        InvalidInput: If it is of a kind that is not known here.
    """
    backbone = classifier.backbone
    match classifier:
        case FedAptModel():
            return _routed(classifier, size)
        case OwnPrompts():
            shared = Shared((LOGITS, FEATURES, OWN), classifier.encode_images, _waiting(classifier))
            own = Own((FEATURES,), classifier.own_logits)
            return Graph(shared, own, size, (backbone.feature_size,))
        case ChangedTower():
            tower = changed_tower(backbone, classifier.change)
            return Graph(Shared((LOGITS,), tower, _plain(classifier)), None, size)
        case FixedText() | AdaptedFeatures():
            return Graph(Shared((LOGITS,), classifier.encode_images, _plain(classifier)), None, size)
    raise InvalidInput(f"a model of the kind {type(classifier).__name__} cannot be exported yet")


def _plain(classifier: Classifier) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda features: {LOGITS: classifier.predict(features)}


def _waiting(classifier: OwnPrompts) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the head of a model in which every image has prompts of its own: the logits come from those."""
    classes = classifier.own_logits(torch.ones(1, classifier.backbone.feature_size)).shape[1]

    def head(features: Tensor) -> dict[str, Tensor]:
        nothing = torch.zeros_like(features[:, :1])
        return {
            LOGITS: nothing.expand(-1, classes),
            FEATURES: features,
            OWN: torch.ones_like(features[:, 0], dtype=torch.bool),
        }

    return head


def _routed(model: FedAptModel, size: tuple[int, int]) -> Graph:
    text_features = model.routed_text  # (K, M, D)
    keys, classes, feature_size = text_features.shape
    flat = text_features.flatten(0, 1)

    def head(features: Tensor) -> dict[str, Tensor]:
        weights = model.weights(features)  # (B, K)
        confidence, domain = weights.max(dim=1)
        # The logits under every key, of which each image takes its own: K times a product that costs
        # nothing beside the image tower.
        under_each = cosine_logits(model.backbone, features, flat).unflatten(1, (keys, classes))  # type: ignore[no-untyped-call]
        chosen = F.one_hot(domain, keys).to(features.dtype)
        return {
            LOGITS: (under_each * chosen.unsqueeze(2)).sum(dim=1),
            DOMAIN: domain,
            WEIGHTS: weights,
            FEATURES: features,
            OWN: confidence < ONE_HOT,
        }

    names = (LOGITS, DOMAIN, WEIGHTS) if keys == 1 else (LOGITS, DOMAIN, WEIGHTS, FEATURES, OWN)
    shared = Shared(names, model.encode_images, head)
    if keys == 1:
        return Graph(shared, None, size)
    return Graph(shared, Own((FEATURES, WEIGHTS), model.own_logits), size, (feature_size, keys))
