"""Making an open_clip model and its tokenizer from a name, a folder or the hub; one line where it fails."""

import difflib
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from open_clip.factory import _get_hf_config, get_model_config
from open_clip.transform import PreprocessCfg, image_transform_v2

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.model_identity import GELU, QUICK_GELU, Activation
from fedapt_secure.learning.clip.device import without_tf32
from fedapt_secure.learning.clip.hub import offline_if_unreachable, quiet_loading
from fedapt_secure.learning.clip.published import CONFIGURATION, Known, of_file
from fedapt_secure.learning.clip.tokenizers import stand_in

TINY: Final = "tiny"
"""Name of the model that ships with the package."""
RANDOM: Final = "random"
"""Value of ``pretrained`` for untrained weights under a fixed seed: for tests and timing."""

_TINY_FOLDER: Final = Path(__file__).parents[1] / "tiny_clip"
_RANDOM_WEIGHTS_SEED: Final = 0
_FOLDER: Final = "local-dir:"
_HUB: Final = "hf-hub:"
_SCHEMES: Final = (_FOLDER, _HUB)  # names of this kind say themselves where their weights are

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """What a backbone is made of.

    Attributes:
        model: The open_clip model.
        transform: From an image to pixels (3, H, W).
        tokenizer: From texts to token numbers (N, L).
        configuration: open_clip's configuration of the model, as it was made.
    """

    model: Any
    transform: Any
    tokenizer: Any
    configuration: Mapping[str, Any]


def load(model: str, pretrained: str | None, activation: Activation | None) -> Loaded:
    """Make a model, on the CPU.

    Args:
        model: As `load_backbone` takes it.
        pretrained: As `load_backbone` takes it.
        activation: As `load_backbone` takes it.

    Raises:
        InvalidInput: If there is no such model, no weights are named, or they or a library cannot be had.
    """
    _check_name(model, pretrained)
    without_tf32()
    source = f"{_FOLDER}{_TINY_FOLDER}" if model == TINY else model
    is_random = pretrained == RANDOM
    with quiet_loading(), offline_if_unreachable(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_WEIGHTS_SEED)
        try:
            configuration = _configuration(source)
            _check_libraries(model, configuration, is_random=is_random)
            preparation = _complete(model, pretrained, configuration, activation)
            clip = open_clip.create_model(
                source,
                pretrained=None if is_random or source.startswith(_SCHEMES) else pretrained,
                load_weights=not is_random,
                require_pretrained=not is_random,
                pretrained_text=False,
                force_preprocess_cfg=preparation,
                quick_gelu=configuration["quick_gelu"],
                text_cfg=configuration["text_cfg"],
            )
            if is_random:
                _fill_decoder(clip)
            tokenizer = _tokenizer(source, configuration, is_random=is_random)
        except InvalidInput:
            raise
        except Exception as error:
            # open_clip, the hub client and torch.load fail in many ways; the user needs one line about it.
            raise InvalidInput(_cannot_load(model, pretrained, error)) from error
    transform = image_transform_v2(PreprocessCfg(**clip.visual.preprocess_cfg), is_train=False)
    return Loaded(clip, transform, tokenizer, configuration)


def _fill_decoder(model: Any) -> None:
    """Give values from the seed to the decoder that CoCa has besides its towers; some come with none."""
    for parameter in getattr(model, "text_decoder", torch.nn.Module()).parameters():
        torch.nn.init.normal_(parameter, std=0.02)


def _configuration(source: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model, a copy."""
    if source.startswith(_HUB):
        described = _get_hf_config(source.removeprefix(_HUB))
    elif source.startswith(_FOLDER):
        folder = Path(source.removeprefix(_FOLDER))
        described = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8"))
    else:
        return dict(get_model_config(source) or {})
    found: dict[str, Any] = described["model_cfg"]
    if source.startswith(_FOLDER):
        found["text_cfg"] = _text_from_folder(folder, found["text_cfg"])
    return found


def _text_from_folder(folder: Path, text_cfg: dict[str, Any]) -> dict[str, Any]:
    """Return a text tower's configuration without a network: what the hub has may lie in the folder."""
    name = text_cfg.get("hf_model_name")
    if not name:
        return text_cfg
    places = (folder / name, folder / Path(name).name, folder)
    own = next((place for place in places if (place / "config.json").is_file()), None)
    return text_cfg if own is None else {**text_cfg, "hf_model_name": str(own)}


def _complete(
    model: str, pretrained: str | None, configuration: dict[str, Any], activation: Activation | None
) -> Mapping[str, Any]:
    """Write down which activation a model has; return how images are prepared where its weights say it."""
    configured = QUICK_GELU if configuration.get("quick_gelu") else GELU
    known = Known(configured, certain=model == TINY or model.startswith(_SCHEMES))
    if pretrained is not None and not known.certain:
        tag = open_clip.get_pretrained_cfg(model, pretrained)
        if tag:
            # Some tags were trained with another activation than the configuration of that name says.
            known = Known(QUICK_GELU if tag.get("quick_gelu") else configured, certain=True)
        elif Path(pretrained).is_file():
            known = of_file(model, Path(pretrained), configured)
    if known.certain and activation not in {None, known.activation}:
        error = InvalidInput(
            f"the weights {pretrained or ''} of {model} have the activation {known.activation}, not"
            f" {activation}"
        )
        error.code = "model_differs"
        raise error
    if known.activation is None and activation is None:
        _log.warning(_ACTIVATION_UNKNOWN, pretrained, configured, model)
    if known.unknown:
        _log.warning(_PREPARATION_UNKNOWN, pretrained, " and ".join(known.unknown), model)
    configuration["quick_gelu"] = (activation or known.activation or configured) == QUICK_GELU
    configuration["text_cfg"] = {**configuration["text_cfg"], "hf_model_pretrained": False}
    return known.preparation


_ACTIVATION_UNKNOWN: Final = (
    "%s does not say which activation its weights were trained with: %s is taken, as the configuration %s"
    " says. Weights of OpenAI, and others of that name, have quick-gelu: say --activation quick-gelu or gelu"
)
_PREPARATION_UNKNOWN: Final = (
    "%s does not say how images are prepared: the usual %s of %s is taken, and its published weights differ"
    " in it. A folder with an open_clip_config.json that says it (local-dir:FOLDER) leaves no doubt"
)


def _tokenizer(source: str, configuration: Mapping[str, Any], *, is_random: bool) -> Any:
    try:
        return open_clip.get_tokenizer(source)
    except Exception:
        text_cfg = configuration["text_cfg"]
        if not is_random or text_cfg.get("hf_model_name"):
            raise
        _log.warning(
            "the tokenizer of %s cannot be had here: a stand-in serves its random weights",
            source,
        )
        return stand_in(text_cfg)


def _check_libraries(model: str, configuration: Mapping[str, Any], *, is_random: bool) -> None:
    text_cfg = configuration["text_cfg"]
    asks = bool(text_cfg.get("hf_model_name")) or (text_cfg.get("hf_tokenizer_name") and not is_random)
    if asks and importlib.util.find_spec("transformers") is None:
        raise InvalidInput(
            f"the text tower of {model} needs the transformers library: pip install 'fedapt-secure[hf]'"
        )


def _check_name(model: str, pretrained: str | None) -> None:
    if model == TINY:
        if pretrained not in {None, RANDOM}:
            raise InvalidInput("the tiny model ships with its weights; leave pretrained out")
        return
    if model.startswith(_SCHEMES):
        return
    known = open_clip.list_models()
    if model not in known:
        close = difflib.get_close_matches(model, [TINY, *known], n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InvalidInput(f"there is no model {model}{hint}")
    if pretrained is None:
        tags = open_clip.list_pretrained_tags_by_model(model)
        offer = f"one of {', '.join(tags)}, or a checkpoint file" if tags else "a checkpoint file"
        raise InvalidInput(f"name the weights of {model} with pretrained: {offer}")


def _cannot_load(model: str, pretrained: str | None, error: Exception) -> str:
    weights = "" if pretrained is None else f" with the weights {pretrained}"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"cannot load the model {model}{weights}: {reason[:200]} (without a network, give a local"
        f" checkpoint file as pretrained, or a folder with all files of the model as {_FOLDER}FOLDER, or use"
        " the tiny model)"
    )
