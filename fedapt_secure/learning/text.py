"""Text features of prompts whose context is learned: start, context vectors, class name, end.

As in CoOp (Zhou et al. 2022, section 3.2) the learned vectors stand between the start token and
the class name. Sequences end at the longest end-of-text token: nothing after it counts.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.backbone import Backbone
from fedapt_secure.learning.shared_context import can_share, encode_names


def spoken(class_name: str) -> str:
    """Return a class name as a prompt says it: underscores are spaces."""
    return " ".join(class_name.replace("_", " ").split())


class PromptedText:
    """Encodes prompts for a fixed list of classes.

    Args:
        backbone: The frozen CLIP.
        class_names: M names, each different and not empty.
        context_tokens: n_ctx, learned vectors before the class name; at least 1.
        class_specific: Whether each class has its own context.
        cut_at_eot: Stop at the longest prompt's end. Off only to compare: the result is the same.
        share_context: Compute a shared context once for all classes. Off only to compare, as well.

    Raises:
        InvalidInput: If the class names are unusable or a prompt does not fit into the text tower.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        context_tokens: int,
        class_specific: bool = True,
        cut_at_eot: bool = True,
        share_context: bool = True,
    ) -> None:
        _check_names(class_names)
        if context_tokens < 1:
            raise InvalidInput("at least one context token is needed")
        self.backbone = backbone
        self.class_names = tuple(class_names)
        self.context_tokens = context_tokens
        self.class_specific = class_specific
        # One class alone would gain nothing.
        self._share = (
            share_context and not class_specific and len(class_names) > 1 and can_share(backbone.text_tower)
        )
        named = backbone.tokenize([f"{spoken(name)}." for name in class_names])  # (M, context_length)
        self._end_of_text = named.argmax(dim=1) + context_tokens  # (M,); the end token has the highest number
        self._check_lengths()
        length = int(self._end_of_text.max()) + 1 if cut_at_eot else backbone.context_length
        with torch.no_grad():
            embedded = backbone.text_tower.embed_tokens(named[:, : length - context_tokens])
        self._start, self._name = embedded[:, :1], embedded[:, 1:]  # (M, 1, W), (M, length - 1 - n_ctx, W)

    def _check_lengths(self) -> None:
        limit = self.backbone.context_length
        longest = int(self._end_of_text.argmax())
        excess = int(self._end_of_text[longest]) + 1 - limit
        if excess > 0:
            raise InvalidInput(
                f"the prompt of class {self.class_names[longest]!r} does not fit into the {limit} tokens of"
                f" {self.backbone.name}: use at least {excess} fewer context tokens than"
                f" {self.context_tokens}, or a shorter class name"
            )

    def encode(self, contexts: Tensor) -> Tensor:
        """Return the text features of R sets of prompts; differentiable in ``contexts``.

        Args:
            contexts: (R, M, n_ctx, W), or (R, n_ctx, W) where the context is shared.

        Returns:
            Unit-norm text features, (R, M, D).
        """
        if self._share:
            return self._encode_shared(contexts)
        if not self.class_specific:
            contexts = contexts.unsqueeze(1)
        sets, classes = len(contexts), len(self.class_names)
        contexts = contexts.expand(sets, classes, -1, -1)  # (R, M, n_ctx, W)
        start = self._start.expand(sets, -1, -1, -1)
        name = self._name.expand(sets, -1, -1, -1)
        prompts = torch.cat([start, contexts, name], dim=2).flatten(0, 1)  # (R·M, L, W)
        features = self.backbone.text_tower.encode(prompts, self._end_of_text.repeat(sets))
        return F.normalize(features, dim=-1).view(sets, classes, features.shape[1])

    def _encode_shared(self, contexts: Tensor) -> Tensor:
        front = torch.cat([self._start[:1].expand(len(contexts), -1, -1), contexts], dim=1)  # (R, P, W)
        features = encode_names(self.backbone.text_tower, front, self._name, self._end_of_text)
        return F.normalize(features, dim=-1)

    def zero_shot(self, template: str) -> Tensor:
        """Return the unit-norm text features (M, D) of hand-written prompts.

        Args:
            template: A sentence with ``{}`` where the class name goes.

        Raises:
            InvalidInput: If ``template`` has no ``{}``.
        """
        return zero_shot_text(self.backbone, self.class_names, template)


def zero_shot_text(backbone: Backbone, class_names: Sequence[str], template: str) -> Tensor:
    """Return the unit-norm text features (M, D) of hand-written prompts, without anything learned.

    Args:
        backbone: The frozen CLIP.
        class_names: M names.
        template: A sentence with ``{}`` where the class name goes.

    Raises:
        InvalidInput: If ``template`` has no ``{}``.
    """
    if template.count("{}") != 1:
        raise InvalidInput(f"a prompt template has one {{}} for the class name; {template!r} has not")
    tokens = backbone.tokenize([template.replace("{}", spoken(name)) for name in class_names])
    return F.normalize(backbone.encode_text(tokens), dim=-1)


def _check_names(class_names: Sequence[str]) -> None:
    if not class_names:
        raise InvalidInput("there is no class to tell apart")
    said = [spoken(name) for name in class_names]
    if not all(said) or len(set(said)) != len(said):
        raise InvalidInput("class names must be different from each other and not empty")
