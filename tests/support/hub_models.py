"""Small models in local folders as the hub has large ones: configuration, text model, tokenizer built here.

Every kind of text tower that open_clip can make, through the loading code that a real one takes. Weights
are random (``pretrained="random"``), so that a folder is a few kilobytes of configuration.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS: Final = (
    "a photo of a cat.",
    "a photo of a fire truck.",
    "a photo of a sea anemone.",
    "a photo of the number zero, one, two, three, four, five, six, seven, eight, nine.",
    "an X-ray of a chest with pneumonia; benign naevus, malignant melanoma.",
)
"""What tokenizers are trained on: enough to have words, and letters for all others."""

HUB_KINDS: Final = ("bert", "roberta", "xlm-roberta", "mt5", "m2m_100")
OWN_KINDS: Final = (
    "argmax",
    "argmax-custom",
    "eos",
    "last",
    "last-causal",
    "first",
    "no-projection",
    "sees-all-argmax",
    "coca",
)
KINDS: Final = (*OWN_KINDS, *HUB_KINDS, "coca-roberta")

_VISION: Final = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
_TEXT: Final = {"context_length": 24, "width": 16, "heads": 2, "layers": 2}
_OPEN_CLIP_VOCABULARY: Final = 49_408
_QUIET: Final = {"show_progress": False}


def make_model(folder: Path, kind: str, **text_cfg: Any) -> str:
    """Write a model of a kind into a folder that is there, and return its name.

    Args:
        folder: Where.
        kind: One of `KINDS`.
        text_cfg: Other settings of the text tower.
    """
    made = (
        _hub_model(folder, kind) if kind in HUB_KINDS or kind == "coca-roberta" else _own_model(folder, kind)
    )
    made["text_cfg"] |= text_cfg
    prepared = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": made, "preprocess_cfg": prepared}))
    return f"local-dir:{folder}"


def _own_model(folder: Path, kind: str) -> dict[str, Any]:
    text: dict[str, Any] = {**_TEXT, "vocab_size": _OPEN_CLIP_VOCABULARY}
    made: dict[str, Any] = {"embed_dim": 24, "custom_text": kind != "argmax", "vision_cfg": dict(_VISION)}
    if kind in {"eos", "last"}:
        text |= {"hf_tokenizer_name": "the-folder", "pool_type": kind}
        text["vocab_size"] = make_tokenizer(folder, "unigram")
    if kind == "eos":
        text["eos_id"] = 1
    if kind in {"last", "sees-all-argmax", "first"}:
        text["no_causal_mask"] = True
    if kind == "last":
        made |= {"init_logit_scale": 2.3, "init_logit_bias": -10.0}
        text |= {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}
    if kind == "last-causal":
        text["pool_type"] = "last"
    if kind == "first":
        text["pool_type"] = "first"
    if kind == "no-projection":
        made["embed_dim"] = text["width"]
        text["proj_type"] = "none"
    if kind == "coca":
        text |= {"embed_cls": True, "output_tokens": True}
        made["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        made["multimodal_cfg"] = {**_TEXT, "context_length": 24, "vocab_size": _OPEN_CLIP_VOCABULARY}
    made["text_cfg"] = text
    return made


def _hub_model(folder: Path, kind: str) -> dict[str, Any]:
    model_type = "roberta" if kind == "coca-roberta" else kind
    vocabulary = write_text_model(folder, model_type)
    text: dict[str, Any] = {
        "hf_model_name": "some-institute/some-text-model",
        "hf_tokenizer_name": "some-institute/some-text-model",
        "hf_proj_type": "mlp" if model_type in {"bert", "roberta"} else "linear",
        "hf_pooler_type": {"bert": "cls_last_hidden_state_pooler", "m2m_100": "cls_pooler"}.get(
            model_type, "mean_pooler"
        ),
        "context_length": 24,
    }
    made: dict[str, Any] = {"embed_dim": 24, "vision_cfg": dict(_VISION), "text_cfg": text}
    if kind == "coca-roberta":
        made["custom_text"] = True
        made["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        made["multimodal_cfg"] = {**_TEXT, "context_length": 24, "vocab_size": vocabulary}
        text |= {"output_tokens": True, "vocab_size": vocabulary}
    return made


def write_text_model(folder: Path, model_type: str) -> int:
    """Write a text model's configuration and tokenizer into a folder, and return its vocabulary's size.

    Args:
        folder: Where.
        model_type: One of `HUB_KINDS`, as `transformers` names them.
    """
    kinds = {"bert": "wordpiece", "roberta": "bytes", "xlm-roberta": "sentence", "m2m_100": "language"}
    vocabulary = make_tokenizer(folder, kinds.get(model_type, "unigram"))
    (folder / "config.json").write_text(json.dumps(_hub_config(model_type, vocabulary)))
    return vocabulary


def _hub_config(model_type: str, vocabulary: int) -> Mapping[str, Any]:
    if model_type == "mt5":
        sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        return {"model_type": "mt5", "vocab_size": vocabulary, "pad_token_id": 0, "eos_token_id": 1, **sizes}
    if model_type == "m2m_100":
        layers = {"encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        numbers = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 96}
        return {
            "model_type": model_type,
            "vocab_size": vocabulary,
            "d_model": 16,
            "scale_embedding": True,
            **layers,
            **heads,
            **numbers,
        }
    numbers = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return {
        "model_type": model_type,
        "vocab_size": vocabulary,
        "max_position_embeddings": 96,
        "initializer_range": 0.2,  # enough for words to be told apart
        **sizes,
        **({"pad_token_id": 0} if model_type == "bert" else numbers),
    }


def make_tokenizer(folder: Path, kind: str) -> int:
    """Write a tokenizer of a kind into a folder, as `transformers` reads it; return its vocabulary's size.

    Args:
        folder: Where.
        kind: ``wordpiece`` as BERT's, ``bytes`` as RoBERTa's, ``unigram`` as T5's, ``sentence`` as
            XLM-RoBERTa's, ``language`` as NLLB's.
    """
    made, special = {"wordpiece": _wordpiece, "bytes": _bytes}.get(kind, lambda: _unigram(kind))()
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    return int(made.get_vocab_size())


def _wordpiece() -> tuple[Tokenizer, dict[str, str]]:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(**_QUIET, vocab_size=300, special_tokens=special)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made, {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def _bytes() -> tuple[Tokenizer, dict[str, str]]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            show_progress=False, vocab_size=400, special_tokens=special, initial_alphabet=alphabet
        ),
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made, {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def _unigram(kind: str) -> tuple[Tokenizer, dict[str, str]]:
    """T5's ends with a token of its own and has no start; NLLB's starts with the language."""
    starts = kind in {"language", "sentence"}
    special = ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn"] if starts else ["<pad>", "</s>", "<unk>"]
    start = "eng_Latn" if kind == "language" else "<s>"
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            show_progress=False, vocab_size=120, special_tokens=special, unk_token="<unk>"
        ),
    )
    numbers = [(name, special.index(name)) for name in (start, "</s>") if name in special]
    single = f"{start} $A </s>" if starts else "$A </s>"
    made.post_processor = processors.TemplateProcessing(single=single, special_tokens=numbers)
    return made, {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
