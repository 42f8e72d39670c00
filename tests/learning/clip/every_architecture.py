"""``python -m tests.learning.clip.every_architecture`` runs all of open_clip's names; writes docs/models.md.

With random weights, and made small where they are large: fewer layers, a small image tower in the place of a
huge one of timm, a small text model in the place of one that only the hub has. What a text tower sees,
where it reads its answer, its mask, its width and its length stay as they are.
"""

import copy
import gc
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import get_model_config

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip import backbone as backbones
from fedapt_secure.learning.clip import text as text_features
from fedapt_secure.learning.clip.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.clip.context_words import initial_context
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters
from tests.learning.clip.unmodified import through_the_model
from tests.support.hub_models import write_text_model

PAGE: Final = Path(__file__).parents[3] / "docs" / "models.md"
BEGIN: Final = "<!-- python -m tests.learning.clip.every_architecture -->"
END: Final = "<!-- end of the table -->"

NAMES: Final = ("cat", "fire_truck", "sea anemone")
SPOKEN: Final = ("cat", "fire truck", "sea anemone")
WORDS: Final = "a photo of a"
SMALL: Final = 30_000_000
"""Values up to which a model is run whole."""
_LAYERS: Final = 2
_VOCABULARY: Final = 2_000
_SMALL_IMAGE_TOWER: Final = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 32}
_MODEL_TYPES: Final = {"xlm-roberta": "xlm-roberta", "roberta": "roberta", "mt5": "mt5", "nllb": "m2m_100"}


@dataclass(frozen=True)
class Row:
    """What was seen of one architecture.

    Attributes:
        name: open_clip's name.
        image_tower: Whose it is.
        text_tower: Of what kind it is.
        cuts, shares, known: As `TextTower` has them.
        run_as: What was made smaller.
        refused: Why it cannot be used; empty where it can.
    """

    name: str
    image_tower: str
    text_tower: str = ""
    cuts: bool = False
    shares: bool = False
    known: bool = False
    run_as: str = ""
    refused: str = ""


def check(name: str, folder: Path) -> Row:
    """Run an architecture, and return what it is.

    Args:
        name: open_clip's name.
        folder: An empty folder.

    Raises:
        AssertionError: If anything is not as the unmodified model has it.
    """
    configuration, run_as = _made_small(get_model_config(name), folder)
    vision = get_model_config(name)["vision_cfg"]
    image_tower = f"timm {vision['timm_model_name']}" if "timm_model_name" in vision else "open_clip"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": configuration}))
    try:
        backbone = load_backbone(f"local-dir:{folder}", RANDOM)
    except InvalidInput as error:
        return Row(name, image_tower, run_as=run_as, refused=str(error))
    _check_text(backbone)
    _check_private_step(backbone)
    height, width = backbone.identity.image_size
    assert backbone.encode_images(torch.zeros(1, 3, height, width)).shape == (1, backbone.feature_size)
    tower = backbone.text_tower
    return Row(name, image_tower, tower.kind, tower.cuts, tower.shares, tower.has_known_layers, run_as)


def _made_small(configuration: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    made, changed = copy.deepcopy(dict(configuration)), []
    vision, text = made["vision_cfg"], made["text_cfg"]
    hub = text.get("hf_model_name")
    if hub:
        model_type = next(own for part, own in _MODEL_TYPES.items() if part in hub)
        text["vocab_size"] = write_text_model(folder, model_type)
        text["hf_proj_type"] = text.get("hf_proj_type") or "linear"
        changed.append(f"small {model_type}")
    elif _values(text, text.get("vocab_size", 49_408)) > SMALL:
        text["layers"] = _LAYERS
        changed.append(f"{_LAYERS} text layers")
        if text.get("hf_tokenizer_name"):  # which cannot be had here anyway
            text["vocab_size"] = _VOCABULARY
    if "timm_model_name" in vision:
        made["vision_cfg"] = {
            "image_size": vision.get("image_size", 224),
            "patch_size": 32,
        } | _SMALL_IMAGE_TOWER
        changed.append("small image tower")
    elif _values(vision, 0) > SMALL:
        vision["layers"] = [1, 1, 1, 1] if isinstance(vision["layers"], list) else 1
        changed.append("1 image layer" if vision["layers"] == 1 else "1 block a stage")
    if "multimodal_cfg" in made:
        made["multimodal_cfg"]["layers"] = 1
    return made, ", ".join(changed) or "whole"


def _values(tower: Mapping[str, Any], vocabulary: int) -> int:
    """Return about how many values a tower of open_clip's own has."""
    layers, width = tower.get("layers", 12), tower.get("width", 512)
    deep = sum(layers) * 8 if isinstance(layers, list) else layers
    return int(12 * deep * width**2 + vocabulary * width)


def _check_text(backbone: Backbone) -> None:
    tokens = backbone.tokenize([f"{WORDS} {name}." for name in SPOKEN])
    expected = F.normalize(backbone._model.encode_text(tokens, normalize=False), dim=-1)
    words = torch.tensor(initial_context(backbone, WORDS).embeddings(backbone.text_width))
    generator = torch.Generator().manual_seed(0)
    for class_specific in (True, False):
        text = PromptedText(backbone, NAMES, len(words), class_specific)
        _equal(text.zero_shot(f"{WORDS} {{}}."), expected)
        contexts = words.expand(1, len(NAMES), -1, -1) if class_specific else words[None]
        _equal(text.encode(contexts)[0], expected)
        shape = contexts.shape
        # As large as words are, so that the answer is neither blind to a context nor made of it alone.
        contexts = (torch.randn(shape, generator=generator) * words.std()).requires_grad_()
        cotangent = torch.randn(1, len(NAMES), backbone.feature_size, generator=generator)
        found, whole = text.encode(contexts), through_the_model(backbone, SPOKEN, contexts[0])[None]
        _equal(found, whole)
        gradient, own = (torch.autograd.grad(one, contexts, cotangent)[0] for one in (found, whole))
        size = float(own.abs().max())
        assert size > 0
        torch.testing.assert_close(gradient, own, atol=1e-4 * size, rtol=1e-3)


def _equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def _check_private_step(backbone: Backbone) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = ParameterShape(
        classes=len(NAMES),
        context_tokens=4,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        domains=2,
        class_specific=True,
    )
    task = Task(
        backbone=backbone,
        class_names=NAMES,
        shape=shape,
        template="a photo of a {}",
        key=torch.rand(4, backbone.text_width, generator=generator),
        domain_index=1,
        settings=TrainingSettings(declared_records=20, noise_multiplier=1.0, local_steps=1),
        keystream=Keystream.from_operating_system(),
    )
    features = torch.randn(20, backbone.feature_size, generator=generator)
    labels = torch.arange(20) % len(NAMES)
    change = LocalTrainer(task, TrainingData(features, labels)).train(initial_parameters(shape, 1))
    assert torch.isfinite(torch.from_numpy(change)).all()
    assert (change != 0).all()  # every value has its noise


def rows(names: Sequence[str]) -> Iterator[Row]:
    """Yield what each of some architectures is."""
    for name in names:
        before = set(backbones._loaded)
        with tempfile.TemporaryDirectory() as folder:
            yield check(name, Path(folder))
        # Loaded models, and text features with them, are kept for the whole process otherwise.
        for key in set(backbones._loaded) - before:
            del backbones._loaded[key]
        text_features._averaged.cache_clear()
        gc.collect()


def rendered(found: Sequence[Row]) -> str:
    """Return the tables: how many there are of each kind, and all of them."""
    kinds = Counter(row.text_tower for row in found if not row.refused)
    lines = [
        f"{len(found)} architectures, {sum(not row.refused for row in found)} of them can be tuned.",
        "",
        "| text tower | architectures | ends with the prompt | shares a context | last layer at one place |",
        "|---|---|---|---|---|",
    ]
    for kind, count in kinds.most_common():
        one = next(row for row in found if row.text_tower == kind)
        some = " | ".join("yes" if each else "no" for each in (one.cuts, one.shares, one.known))
        lines.append(f"| {kind} | {count} | {some} |")
    lines += ["", "| name | image tower | text tower | run as |", "|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {row.image_tower} | {row.refused or row.text_tower} | {row.run_as} |"
        for row in found
    ]
    return "\n".join(lines) + "\n"


def with_table(text: str, found: Sequence[Row]) -> str:
    """Return a page's text with the tables of what was found in it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rendered(found)}{END}{after}"


def known_rows(arguments: Sequence[str]) -> Mapping[str, Row]:
    """Return what a run before has printed into a file, so that one that was interrupted goes on."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        return {}
    lines = [line for line in Path(arguments[0]).read_text().splitlines() if line.startswith("{")]
    return {row.name: row for row in (Row(**json.loads(line)) for line in lines)}


def main(names: Sequence[str]) -> int:
    """Run all, those that are named, or those that a file of a run before lacks; write the page for all."""
    known = known_rows(names)
    found = []
    for name in open_clip.list_models() if known or not names else names:
        row = known.get(name) or next(iter(rows([name])))
        print(json.dumps(asdict(row)), flush=True)
        found.append(row)
    if known or not names:
        PAGE.write_text(with_table(PAGE.read_text(), found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
