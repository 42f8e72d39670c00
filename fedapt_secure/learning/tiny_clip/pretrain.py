"""Train the tiny CLIP that ships with the package, from font glyphs and captions.

    python -m fedapt_secure.learning.tiny_clip.pretrain --out FOLDER

About ten minutes on one core. Needs the extra ``[pretrain]``. Writes ``open_clip_model.safetensors``
(float16) beside a copy of ``open_clip_config.json``; MODEL_CARD.md says what came out.
"""

import argparse
import json
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fedapt_secure.learning.data.digits.styles import CAPTIONS, STYLES, draw
from fedapt_secure.learning.tiny_clip.glyphs import CHARACTERS, character_name, font_files, glyph

log = logging.getLogger("pretrain")
HERE = Path(__file__).parent
DOMAINS = tuple(STYLES)
PLAIN_TEMPLATES = (
    "a photo of a {kind} {name}",
    "{kind} {name}",
    "a {name}",
    "the {kind} {name}",
    "an image of the {kind} {name}",
    "{name}",
)
STYLED_TEMPLATES = ("{style}, {kind} {name}", "the {kind} {name} in {style}", "a {style} of {kind} {name}")
STYLED_SHARE = 0.35  # of the batches: captions that name the style as well
ANY_CHARACTER_SHARE = 0.4  # of the pictures; the others are digits, which the simulation asks about


@dataclass(frozen=True)
class Pictures:
    """Pre-training pictures: pixels (N, 3, 32, 32) normalised, character and domain index (N,)."""

    pixels: torch.Tensor
    character: torch.Tensor
    domain: torch.Tensor


def make_pictures(rng: np.random.Generator, count: int, mean: float, std: float) -> Pictures:
    """Draw ``count`` glyphs, each in a random style."""
    fonts = font_files()
    any_character = rng.integers(len(CHARACTERS), size=count)
    any_digit = rng.integers(10, size=count)
    character = np.where(rng.random(count) < ANY_CHARACTER_SHARE, any_character, any_digit)
    domain = rng.integers(len(DOMAINS), size=count)
    pictures = np.stack(
        [
            draw(rng, glyph(rng, CHARACTERS[c], fonts), DOMAINS[d])
            for c, d in zip(character, domain, strict=True)
        ]
    )
    pixels = (torch.from_numpy(pictures).permute(0, 3, 1, 2) - mean) / std
    return Pictures(pixels.contiguous(), torch.from_numpy(character), torch.from_numpy(domain))


def caption(rng: np.random.Generator, character: int, domain: int | None) -> str:
    """Return one caption of a character, naming its style where ``domain`` is given."""
    symbol = CHARACTERS[character]
    words = {"name": character_name(symbol), "kind": "letter"}
    if symbol.isdigit():
        words["kind"] = ("digit", "number")[rng.integers(2)]
    if domain is None:
        return PLAIN_TEMPLATES[rng.integers(len(PLAIN_TEMPLATES))].format(**words)
    words["style"] = CAPTIONS[DOMAINS[domain]]
    return STYLED_TEMPLATES[rng.integers(len(STYLED_TEMPLATES))].format(**words)


def train(pictures: Pictures, config: Path, *, steps: int, rng: np.random.Generator) -> Any:
    """Fit the model that ``config`` describes: image against all captions of the batch's kind."""
    with tempfile.TemporaryDirectory() as folder:
        name = "tiny-clip-pretraining"
        description = json.loads(config.read_text())["model_cfg"]
        (Path(folder) / f"{name}.json").write_text(json.dumps(description))
        open_clip.add_model_config(folder)
        model: Any = open_clip.create_model(name)
        tokenize = open_clip.get_tokenizer(name)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.15)
    for step in range(steps):
        batch = torch.randint(len(pictures.pixels), (192,))
        character, domain = pictures.character[batch], pictures.domain[batch]
        features = model.encode_image(pictures.pixels[batch], normalize=True)
        if rng.random() < STYLED_SHARE:
            pairs = sorted(set(zip(character.tolist(), domain.tolist(), strict=True)))
            captions = [caption(rng, c, d) for c, d in pairs]
            target = torch.tensor(
                [pairs.index(pair) for pair in zip(character.tolist(), domain.tolist(), strict=True)]
            )
        else:
            captions = [caption(rng, c, None) for c in range(len(CHARACTERS))]
            target = character
        text = model.encode_text(tokenize(captions), normalize=True)
        loss = F.cross_entropy(model.logit_scale.exp().clamp(max=100) * features @ text.T, target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            log.info("step %d loss %.3f", step, loss.item())
    return model


def main() -> None:
    """Parse the command line, train, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--pictures", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # open_clip tells of its loading
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)  # the same sums in the same order on every machine with this torch
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    config = HERE / "open_clip_config.json"
    normalise = json.loads(config.read_text())["preprocess_cfg"]
    pictures = make_pictures(rng, options.pictures, normalise["mean"][0], normalise["std"][0])
    model = train(pictures, config, steps=options.steps, rng=rng)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, options.out / "open_clip_model.safetensors")
    if options.out.resolve() != HERE.resolve():
        shutil.copy(config, options.out)


if __name__ == "__main__":
    main()
