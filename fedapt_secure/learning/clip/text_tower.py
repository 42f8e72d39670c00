"""The part of a CLIP's text tower that comes after the token embeddings, whatever kind of tower it is.

A tower takes embeddings in place of tokens, and the tokens besides: positions, mask and pooling are its own
and follow from these. What need not be computed is left out where the answer stays the same, and each tower
says where:

- *cutting*: tokens after a prompt's end count for nothing if no earlier token sees them (a causal tower
  that reads its answer at the end of the text) or nobody does (padding that is masked);
- *sharing*: the hidden states of a context that all classes share are the same for each, if no token sees a
  later one;
- *one position*: the last layer is needed where the answer is read alone, if the layers are open_clip's own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.layers import are_known, at_positions, rows_at

Pooling = Literal["argmax", "eos", "first", "last"]
"""Where a tower reads its answer: at the highest token number, at the end token, or at a fixed place."""
_SAME: Final = 1e-5


@dataclass(frozen=True)
class TextTower(ABC):
    """A frozen text tower that takes token embeddings.

    Attributes:
        module: The open_clip module that holds the tower.
        text_width: W, width of a token embedding.
        context_length: L, longest sequence in tokens.
    """

    module: Any
    text_width: int
    context_length: int

    @property
    @abstractmethod
    def kind(self) -> str:
        """What kind of tower it is, in a few words."""

    @property
    @abstractmethod
    def cuts(self) -> bool:
        """Whether nothing after a prompt's end counts."""

    @property
    def has_known_layers(self) -> bool:
        """Whether its layers can be worked out by hand, see `layers`."""
        return False

    @property
    def shares(self) -> bool:
        """Whether the hidden states of a shared context are the same for all classes, and can be had."""
        return False

    @abstractmethod
    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Return the embeddings (..., W) of token numbers (...), without positions."""

    @abstractmethod
    def counted(self, tokens: Tensor) -> int:
        """Return how many leading tokens of the rows (B, L) count for the answer; L where all do."""

    @abstractmethod
    def encode(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """Return text features from token embeddings; differentiable in these.

        Args:
            embeddings: Token embeddings without positions, (B, T, W), T from `counted` up to L.
            tokens: What stands there for mask and pooling, (B, T); a word's number where a context is.

        Returns:
            Text features, (B, D), not normalised.
        """


@dataclass(frozen=True)
class OwnTextTower(TextTower):
    """A text transformer of open_clip itself.

    Attributes:
        pooling: Where it reads its answer.
        end_token: Number of the end token, for the pooling that looks for it.
    """

    pooling: Pooling
    end_token: int

    @property
    def kind(self) -> str:
        """As `TextTower.kind`."""
        seen = "causal" if self.is_causal else "sees all tokens"
        if self._class_token is not None:
            return f"{seen}, class token"
        where = {"argmax": "highest token", "eos": "end token", "first": "first token", "last": "last token"}
        return f"{seen}, read at {where[self.pooling]}"

    @property
    def is_causal(self) -> bool:
        """Whether no token sees a later one."""
        return self.module.attn_mask is not None

    @property
    def cuts(self) -> bool:
        """As `TextTower.cuts`."""
        return self.is_causal and self.pooling in {"argmax", "eos"} and self._class_token is None

    @cached_property
    def has_known_layers(self) -> bool:
        """As `TextTower.has_known_layers`."""
        return self._class_token is None and are_known(self.module.transformer)

    @property
    def shares(self) -> bool:
        """As `TextTower.shares`."""
        return self.cuts and self.has_known_layers

    @property
    def _class_token(self) -> Any:
        """The embedding that is appended to each sequence (CoCa), or ``None``."""
        return getattr(self.module, "cls_emb", None)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """As `TextTower.embed_tokens`."""
        embeddings: Tensor = self.module.token_embedding(tokens)
        return embeddings

    def read_at(self, tokens: Tensor) -> Tensor:
        """Return where the answer of each row (B, T) is read, (B,)."""
        if self.pooling == "argmax":
            return tokens.argmax(dim=1)
        if self.pooling == "eos":
            return (tokens == self.end_token).int().argmax(dim=1)
        at = 0 if self.pooling == "first" else tokens.shape[1] - 1
        return tokens.new_full((len(tokens),), at)

    def counted(self, tokens: Tensor) -> int:
        """As `TextTower.counted`."""
        return int(self.read_at(tokens).max()) + 1 if self.cuts else tokens.shape[1]

    def encode(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """As `TextTower.encode`."""
        if self._class_token is not None:
            return self._encode_with_class_token(embeddings, tokens)
        length, ends, mask = embeddings.shape[1], self.read_at(tokens), None
        if self.is_causal:
            mask = self.module.attn_mask[:length, :length]
        hidden = embeddings + self.module.positional_embedding[:length]
        if not self.has_known_layers:
            hidden = self.module.transformer(hidden, attn_mask=mask)
            return self.answer(rows_at(hidden, ends).squeeze(1))
        *layers, last = self.module.transformer.resblocks
        for layer in layers:
            hidden = layer(hidden, attn_mask=mask)
        return self.answer(at_positions(last, hidden, ends, is_causal=self.is_causal).squeeze(1))

    def _encode_with_class_token(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """Return the answer of a class token after the whole sequence (Yu et al. 2022, CoCa, section 3.2)."""
        count, own = len(embeddings), self._class_token
        hidden = torch.cat([embeddings, own.expand(count, 1, -1)], dim=1)
        length = hidden.shape[1]
        # The tower's own mask, of padding and class token, in the order in which published weights have it.
        mask = self.module._build_additive_mask(tokens, length, hidden.dtype)
        if self.is_causal:
            mask = mask + self.module.attn_mask[:length, :length]
        hidden = self.module.transformer(hidden + self.module.positional_embedding[:length], attn_mask=mask)
        return self.answer(hidden[:, -1])

    def answer(self, at_end: Tensor) -> Tensor:
        """Return text features (B, D) from the last layer's output where the answer is read, (B, W)."""
        # The last norm treats each position by itself, so the others need none.
        normed: Tensor = self.module.ln_final(at_end)
        projection = self.module.text_projection
        if projection is None:
            return normed
        is_module = isinstance(projection, torch.nn.Module)
        features: Tensor = projection(normed) if is_module else normed @ projection
        return features


@dataclass(frozen=True)
class HubTextTower(TextTower):
    """A text tower of the ``transformers`` library within open_clip: BERT, RoBERTa, mT5, NLLB and so on.

    Attributes:
        cuts: Whether its padding is masked, as was seen when it was made.
    """

    cuts: bool = False

    @property
    def kind(self) -> str:
        """As `TextTower.kind`."""
        pooler = type(self.module.pooler).__name__
        return f"{self.module.config.model_type} of transformers, {pooler}"

    @property
    def _padding(self) -> int:
        return int(self.module.config.pad_token_id)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """As `TextTower.embed_tokens`; scaled where the tower scales them."""
        embeddings: Tensor = self.module.transformer.get_input_embeddings()(tokens)
        return embeddings

    def counted(self, tokens: Tensor) -> int:
        """As `TextTower.counted`."""
        some = (tokens != self._padding).any(dim=0).nonzero()
        return int(some.max()) + 1 if self.cuts and len(some) else tokens.shape[1]

    def encode(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """As `TextTower.encode`."""
        seen = (tokens != self._padding).long()
        answers = self.module.transformer(inputs_embeds=embeddings, attention_mask=seen)
        features: Tensor = self.module.proj(self.module.pooler(answers, seen))
        return features


def text_tower_of(model: Any, name: str, example: Tensor) -> TextTower:
    """Return the text tower of an open_clip model.

    Args:
        model: An ``open_clip.CLIP``, ``open_clip.CustomTextCLIP`` or ``open_clip.CoCa``, in evaluation mode.
        name: What to call the model in an error.
        example: Token numbers of a short text, (1, L), as its tokenizer pads them.

    Raises:
        InvalidInput: If it is another kind of model, or a prompt's words do not reach its answer.
    """
    if isinstance(model, open_clip.CLIP):
        # It keeps the parts of a text transformer, not the transformer.
        return _own(model, model.text_pool_type, model.text_eos_id, name)
    text = getattr(model, "text", None)
    if isinstance(text, TextTransformer):
        return _own(text, text.pool_type, text.eos_id, name)
    if isinstance(text, HFTextEncoder):
        try:
            return _hub(text, example)
        except (IndexError, RuntimeError) as error:
            raise InvalidInput(
                f"the text tower of {name} does not run on the {example.shape[1]} tokens that its tokenizer"
                f" gives: {str(error).splitlines()[0]}"
            ) from None
    raise InvalidInput(
        f"the model {name} is no CLIP with an image tower and a text tower that are known: name another one"
    )


def _own(module: Any, pooling: str, end_token: int, name: str) -> OwnTextTower:
    places, text_width = module.positional_embedding.shape
    class_token = getattr(module, "cls_emb", None) is not None
    tower = OwnTextTower(module, text_width, places - class_token, pooling, end_token)  # type: ignore[arg-type]
    if not class_token:
        _check_reading(tower, name)
    return tower


def _check_reading(tower: OwnTextTower, name: str) -> None:
    if tower.context_length != tower.module.context_length:
        raise InvalidInput(
            f"the configuration of {name} has a class token that its kind of model does not use: open_clip"
            " cannot run it either (custom_text is missing)"
        )
    if tower.pooling not in {"argmax", "eos", "first", "last"}:
        raise InvalidInput(
            f"the text tower of {name} gives an answer for each token, none for a text (pooling"
            f" {tower.pooling}): name another model"
        )
    if tower.is_causal and tower.pooling == "first":
        raise InvalidInput(
            f"the text tower of {name} reads its answer at the first token, which sees no other: every text"
            " has the same features"
        )


@torch.no_grad()
def _hub(module: Any, example: Tensor) -> HubTextTower:
    width = int(module.transformer.get_input_embeddings().weight.shape[1])
    tower = HubTextTower(module, width, example.shape[1], cuts=True)
    # Whether padding is masked is not asked but seen: the answer without it is the same, or it is kept.
    short = example[:, : tower.counted(example)]
    whole, cut = (tower.encode(tower.embed_tokens(tokens), tokens) for tokens in (example, short))
    masked = bool((whole - cut).abs().max() <= _SAME * whole.abs().max())
    return HubTextTower(module, width, example.shape[1], cuts=masked)
