"""Where a tokenizer puts what: start tokens, words, end tokens, padding; and a place for learned contexts.

Tokenizers differ in all of it (a start token or none, an end token of its own or one that is the padding, a
class token behind the padding), so nothing is assumed: how it reads the empty text and one word shows where
things stand. A context goes after the start tokens, and takes the place of padding.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedapt_crypto.errors import InvalidInput

Tokenize = Callable[[Sequence[str]], Tensor]
"""Token numbers (N, L) of N texts, on the CPU."""
_WORD = "a"
"""Stands where a context will: a name within a sentence may be other tokens than a name alone."""


@dataclass(frozen=True)
class PromptRow:
    """A class's prompt with places for its context.

    Attributes:
        tokens: L token numbers; those of the context's places are of a word, whatever stands there later.
        used: Tokens without padding, context included; L + 1 or more where it does not fit.
        is_cut: Whether the tokenizer has cut the name, so that nobody knows how long it is.
    """

    tokens: tuple[int, ...]
    used: int
    is_cut: bool


class PromptTokens:
    """How a tokenizer lays out a text.

    Args:
        tokenize: The tokenizer.

    Attributes:
        length: L, tokens of every row.
        start: Tokens before the first word.

    Raises:
        InvalidInput: If it cannot be seen where words stand.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        empty, word = (tuple(row) for row in tokenize(["", _WORD]).tolist())
        self.length = len(empty)
        self._padding = Counter(empty).most_common(1)[0][0]
        differ = (at for at, (one, other) in enumerate(zip(empty, word, strict=True)) if one != other)
        self.start = next(differ, -1)
        if self.start < 0:
            raise InvalidInput("its tokenizer reads no words")
        self._tail = next(at for at, token in enumerate(reversed(empty)) if token == self._padding)
        behind = self._padding in empty[self.start :]
        if not behind or (self._tail and self.start and empty[self.start - 1] == self._padding):
            raise InvalidInput("its tokenizer puts padding in front of words")
        self._ends = empty.index(self._padding, self.start) - self.start
        """End tokens of their own; 0 where the padding ends a text, and one of it is needed then."""
        self._words = self.words(_WORD)

    def words(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text's words alone."""
        return self._words_of(self._row(text))

    def prompt(self, name: str, context_tokens: int) -> PromptRow:
        """Return the row of a class's prompt: start, places of the context, name, end, padding.

        Args:
            name: The class as a prompt says it, with its full stop.
            context_tokens: n_ctx, at least 1.
        """
        alone, said = self._row(name), self._row(f"{_WORD} {name}")
        words, replaced = self._words_of(said), len(self._words)
        if words[:replaced] != self._words:  # it reads the word and the name as one
            said, words, replaced = alone, self._words_of(alone), 0
        full = not self._free(said) and (not self._free(alone) or self._used(alone) + replaced > self.length)
        before, after = said[: self.start], said[self.start + replaced :]
        row = [*before, *([self._words[0]] * context_tokens), *after]
        used = self._used(said) - replaced + context_tokens
        return PromptRow(self._fitted(row), used, full)

    def _row(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenize([text])[0].tolist())

    def _words_of(self, row: tuple[int, ...]) -> tuple[int, ...]:
        return row[self.start : self._used(row) - self._tail - max(self._ends, 1)]

    def _used(self, row: tuple[int, ...]) -> int:
        """Return how many tokens a row needs: all but the padding, of which the first may be an end token."""
        return self.length - self._free(row)

    def _free(self, row: tuple[int, ...]) -> int:
        at = self.length - self._tail
        while at and row[at - 1] == self._padding:
            at -= 1
        found = self.length - self._tail - at
        return found if self._ends else max(found - 1, 0)

    def _fitted(self, row: list[int]) -> tuple[int, ...]:
        """Return a row with as much padding as makes it L long; one that is too long as it is, cut."""
        end = len(row) - self._tail
        if len(row) < self.length:
            row[end:end] = [self._padding] * (self.length - len(row))
        elif len(row) > self.length:
            del row[end - (len(row) - self.length) : end]
        return tuple(row)


def as_tokens(rows: Sequence[PromptRow]) -> Tensor:
    """Return the token numbers (M, L) of M rows."""
    return torch.tensor([row.tokens for row in rows])
