"""A stand-in where random weights have no tokenizer, and one hash over what a tokenizer does."""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from open_clip.model import CLIPTextCfg
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer
from torch import Tensor

_RESERVED: Final = 3  # padding, and two that models call start or end
_WORDS: Final = re.compile(r"\w+|[^\w\s]")
_NOT_RULES: Final = frozenset({"truncation", "padding", "version"})  # of a call, not of the tokenizer
_WRAPPER: Final = ("context_length", "strip_sep_token", "tokenizer_mode")


class StandInTokenizer:
    """Words to numbers by their hash: for random weights, whose vocabulary means nothing anyway.

    Args:
        vocabulary: Size of the model's vocabulary.
        context_length: L.
        end: Number of the end token.
    """

    def __init__(self, vocabulary: int, context_length: int, end: int) -> None:
        self.vocabulary, self.context_length, self.end = vocabulary, context_length, end

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return token numbers (len(texts), L): words, end, zeros."""
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            words = [self._number(word) for word in _WORDS.findall(text.lower())]
            tokens = torch.tensor([*words[: self.context_length - 1], self.end])
            row[: len(tokens)] = tokens
        return rows

    def _number(self, word: str) -> int:
        digest = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
        return _RESERVED + digest % (self.vocabulary - _RESERVED)


def stand_in(text_cfg: Mapping[str, Any]) -> StandInTokenizer:
    """Return a stand-in for the tokenizer of a model with a text tower of open_clip's own.

    Args:
        text_cfg: Its configuration.
    """
    defaults = CLIPTextCfg()
    # Ends where the tower looks for the end; towers that look elsewhere take any number.
    end = text_cfg.get("eos_id", defaults.eos_id) if text_cfg.get("pool_type") == "eos" else 1
    return StandInTokenizer(
        text_cfg.get("vocab_size", defaults.vocab_size),
        text_cfg.get("context_length", defaults.context_length),
        end,
    )


def tokenizer_hash(tokenizer: Any) -> str:
    """Return the SHA-256, hexadecimal, of vocabulary, rules and settings of a tokenizer.

    Args:
        tokenizer: One of open_clip's, or a stand-in.
    """
    digest = hashlib.sha256()
    for name, value in sorted(_settings(tokenizer).items()):
        digest.update(f"{name}={value}\n".encode())
    inner = getattr(tokenizer, "tokenizer", None)
    if isinstance(tokenizer, SimpleTokenizer):
        # Its number of a token is the place in this list; merges come in the order of their rank.
        digest.update(json.dumps(sorted(tokenizer.encoder.items(), key=lambda one: one[1])).encode())
        ranks = sorted(tokenizer.bpe_ranks.items(), key=lambda one: one[1])
        digest.update(json.dumps([list(pair) for pair, _ in ranks]).encode())
    elif inner is not None:
        digest.update(_rules(inner))
    return digest.hexdigest()


def _settings(tokenizer: Any) -> Mapping[str, object]:
    if isinstance(tokenizer, StandInTokenizer):
        return {"stand-in": (tokenizer.vocabulary, tokenizer.context_length, tokenizer.end)}
    kind = "siglip" if isinstance(tokenizer, SigLipTokenizer) else "hub"
    found: dict[str, object] = {
        "kind": kind if isinstance(tokenizer, HFTokenizer | SigLipTokenizer) else "bpe"
    }
    found |= {name: getattr(tokenizer, name) for name in _WRAPPER if hasattr(tokenizer, name)}
    found["clean"] = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")
    if getattr(tokenizer, "reduction_fn", None) is not None:
        found["reduction"] = tokenizer.reduction_fn.__name__
    return found


def _rules(inner: Any) -> bytes:
    """Return what a tokenizer of ``transformers`` consists of, spelled in one way."""
    special = json.dumps({name: str(value) for name, value in sorted(inner.special_tokens_map.items())})
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is not None:
        rules = {
            name: value for name, value in json.loads(backend.to_str()).items() if name not in _NOT_RULES
        }
        model = rules.get("model") or {}
        if isinstance(model.get("merges"), list):  # older files have "a b" where newer ones have ["a", "b"]
            model["merges"] = [
                one.split(" ", 1) if isinstance(one, str) else list(one) for one in model["merges"]
            ]
        return (special + json.dumps(rules, sort_keys=True)).encode()
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(Path(name) for name in inner.save_vocabulary(folder))
        return special.encode() + b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
