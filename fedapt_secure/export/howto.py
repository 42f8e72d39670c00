"""How an exported form is run, for its card: Markdown that holds no name of anybody's."""

from fedapt_secure.export.graphs import DOMAIN, LOGITS, PROBABILITIES, WEIGHTS
from fedapt_secure.export.onnx_file import MODEL as ONNX_MODEL
from fedapt_secure.export.onnx_file import PIXELS
from fedapt_secure.export.torchscript_file import MODEL as SCRIPTED_MODEL
from fedapt_secure.learning.bundle import Bundle
from fedapt_secure.learning.clip.backbone import RANDOM, TINY

_PIXELS: str = (
    "Pixels are made of an image as `preprocess.json` says, step by step. Input `pixels`: float32, (B, 3, {},"
    " {}), any B."
)
_SCRIPTED: str = (
    "`torch.jit.load` gives a module that takes pixels and returns a dictionary. torch calls TorchScript"
    " deprecated and keeps it working: for something new take the form `onnx`. Properties lie within the file"
    " in `fedapt-secure.json` (`_extra_files`)."
)
_SCRIPT: tuple[str, ...] = (
    "```",
    "pip install open_clip_torch",
    "python predict.py IMAGE...",
    "```",
    "",
    "It prints one JSON object an image. It reads 8-bit images that Pillow opens, turned upright; where an"
    " image has transparent parts, more than 8 bits or CMYK, convert it as `preprocess.json` says first.",
)


def how_to(form: str, bundle: Bundle, size: tuple[int, int]) -> list[str]:
    """Return how to run a form, as lines of Markdown.

    Args:
        form: ``onnx``, ``torchscript`` or ``open-clip``.
        bundle: The model.
        size: H and W of its pixels.
    """
    if form == "open-clip":
        return [*_SCRIPT, "", _clip(bundle)]
    file = ONNX_MODEL if form == "onnx" else SCRIPTED_MODEL
    outputs = [
        f"- `{LOGITS}`: float32, (B, {bundle.shape.classes})",
        f"- `{PROBABILITIES}`: their softmax",
    ]
    if bundle.keys is not None:
        outputs += [
            f"- `{DOMAIN}`: int64, (B), the key with the most weight",
            f"- `{WEIGHTS}`: float32, (B, {bundle.shape.domains}), the weights of the keys",
        ]
    properties = (
        "Names of classes and domains, opset, SHA-256 of the bundle and preprocessing also stand in the"
        " file's metadata."
        if form == "onnx"
        else _SCRIPTED
    )
    return [
        f"`{file}`. {_PIXELS.format(*size)} Outputs:",
        "",
        *outputs,
        "",
        properties,
        f"Input's name: `{PIXELS}`.",
    ]


def _clip(bundle: Bundle) -> str:
    if bundle.model == TINY:
        return "The CLIP lies beside the script, in `clip`."
    if bundle.pretrained == RANDOM:
        return "The CLIP's weights are random, under a fixed seed; another torch may draw others."
    return (
        "open_clip loads the CLIP by what stands under `open_clip` in `model.json`. Where `model_name` or"
        " `pretrained` is `null` there, the weights were a file of whoever exported this: put the path of"
        " yours in."
    )
