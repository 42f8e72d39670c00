"""Text features of prompts whose context is learned: start, context vectors, class name, end.

As in CoOp (Zhou et al. 2022, section 3.2) the learned vectors stand between the start token, where there is
one, and the class name. Sequences end at the longest prompt's end where nothing after it counts
(`TextTower.cuts`).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.class_names import spoken_names
from fedapt_secure.learning.clip.device import in_precision
from fedapt_secure.learning.clip.prompt_tokens import PromptRow, as_tokens
from fedapt_secure.learning.clip.shared_context import encode_names
from fedapt_secure.learning.clip.templates import PLACE, zero_shot_templates
from fedapt_secure.learning.clip.text_tower import OwnTextTower
from fedapt_secure.protocol.class_names import check_class_names


class PromptedText:
    """Encodes prompts for a fixed list of classes.

    Args:
        backbone: The frozen CLIP.
        class_names: M names, each different and not empty; said as `spoken_names` has it.
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
        self._spoken = spoken_names(class_names)
        self.context_tokens = context_tokens
        self.class_specific = class_specific
        # One class alone would gain nothing.
        self._share = (
            share_context and not class_specific and len(class_names) > 1 and backbone.text_tower.shares
        )
        rows = [backbone.prompt_tokens.prompt(f"{name}.", context_tokens) for name in self._spoken]
        self._check_lengths(rows)
        self._check_tokens(rows)
        tokens = as_tokens(rows)
        length = backbone.text_tower.counted(tokens) if cut_at_eot else backbone.context_length
        self._tokens = tokens[:, :length].to(backbone.device)  # (M, T)
        with torch.no_grad():
            embedded = backbone.text_tower.embed_tokens(self._tokens)
        start = backbone.prompt_tokens.start
        self._start = embedded[:, :start]  # (M, P, W)
        self._name = embedded[:, start + context_tokens :]  # (M, T - P - n_ctx, W)

    @property
    def layout(self) -> tuple[object, ...]:
        """What `encode` computes follows from: equal where two compute the same in the same way."""
        return (
            self.backbone,
            self.class_names,
            self.context_tokens,
            self.class_specific,
            self._share,
            self._tokens.shape[1],
        )

    def _check_lengths(self, rows: Sequence[PromptRow]) -> None:
        limit = self.backbone.context_length
        longest = max(range(len(rows)), key=lambda at: (rows[at].is_cut, rows[at].used))
        needed = rows[longest].used
        if needed <= limit and not rows[longest].is_cut:
            return
        name = limit if rows[longest].is_cut else needed - self.context_tokens
        room = limit - name
        # A name that fills the context was cut by the tokenizer: how long it is nobody knows then.
        advice = (
            f"at most {room} context tokens fit: set context_tokens to {room} or less, or give the class a"
            f" name of at most {limit - self.context_tokens} tokens"
            if room >= 1
            else f"no context fits beside it: give the class a name of at most {limit - self.context_tokens}"
            " tokens"
        )
        error = InvalidInput(
            f"the class {self.class_names[longest]!r} takes {name}{'' if room >= 1 else ' or more'} of the"
            f" {limit} tokens of {self.backbone.name}, with its start and end, and the plan wants"
            f" {self.context_tokens} context tokens: {advice}"
        )
        error.code = "plan_impossible"
        raise error

    def _check_tokens(self, rows: Sequence[PromptRow]) -> None:
        first: dict[tuple[int, ...], str] = {}
        for name, row in zip(self.class_names, rows, strict=True):
            other = first.setdefault(row.tokens, name)
            if other != name:
                raise InvalidInput(
                    f"{self.backbone.name} reads the classes {other!r} and {name!r} as the same words:"
                    " rename one"
                )

    def encode(self, contexts: Tensor) -> Tensor:
        """Return the text features of R sets of prompts; differentiable in ``contexts``.

        The tower, and the way back through it, compute in the backbone's precision.

        Args:
            contexts: (R, M, n_ctx, W), or (R, n_ctx, W) where the context is shared.

        Returns:
            Unit-norm text features, (R, M, D), float32.
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
        with in_precision(self.backbone.precision, self.backbone.device):
            features = self.backbone.text_tower.encode(prompts, self._tokens.repeat(sets, 1))
        return F.normalize(features.to(contexts.dtype), dim=-1).view(sets, classes, features.shape[1])

    def _encode_shared(self, contexts: Tensor) -> Tensor:
        front = torch.cat([self._start[:1].expand(len(contexts), -1, -1), contexts], dim=1)  # (R, P, W)
        tower = self.backbone.text_tower
        assert isinstance(tower, OwnTextTower)  # no other kind shares
        with in_precision(self.backbone.precision, self.backbone.device):
            features = encode_names(tower, front, self._name, tower.read_at(self._tokens))
        return F.normalize(features.to(contexts.dtype), dim=-1)

    def zero_shot(self, template: str | Sequence[str]) -> Tensor:
        """Return the unit-norm text features (M, D) of hand-written prompts.

        The features of several prompts of a class are averaged and scaled to unit norm again (Radford et
        al. 2021, section 3.1.4).

        Args:
            template: What `zero_shot_templates` takes, or several of them.

        Raises:
            InvalidInput: If there is no template, or one is unusable.
        """
        return zero_shot_text(self.backbone, self.class_names, template)


def zero_shot_text(backbone: Backbone, class_names: Sequence[str], template: str | Sequence[str]) -> Tensor:
    """Return the unit-norm text features (M, D) of hand-written prompts, without anything learned.

    The features of several prompts of a class are averaged and scaled to unit norm again (Radford et al.
    2021, section 3.1.4).

    Args:
        backbone: The frozen CLIP.
        class_names: M names.
        template: What `zero_shot_templates` takes, or several of them.

    Raises:
        InvalidInput: If there is no template, or one is unusable.
    """
    given = (template,) if isinstance(template, str) else tuple(template)
    sentences = [sentence for one in given for sentence in zero_shot_templates(one)]
    if not sentences:
        raise InvalidInput("at least one prompt template is needed")
    return _averaged(backbone, tuple(class_names), tuple(sentences)).clone()


@lru_cache(maxsize=16)
def _averaged(backbone: Backbone, class_names: tuple[str, ...], sentences: tuple[str, ...]) -> Tensor:
    """Return the features; kept, for they are asked for again in every round and every evaluation."""
    names, total = spoken_names(class_names), torch.zeros(())
    for sentence in sentences:
        tokens = backbone.tokenize([sentence.replace(PLACE, name) for name in names])
        total = total.to(tokens.device) + F.normalize(backbone.encode_text(tokens), dim=-1)
    return F.normalize(total, dim=-1)


def _check_names(class_names: Sequence[str]) -> None:
    if not class_names:
        raise InvalidInput("there is no class to tell apart")
    if not all(spoken_names(class_names)):
        raise InvalidInput("a class name has no word that a prompt could say")
    try:
        check_class_names(class_names)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
