"""Makes one form of one bundle: written beside its place, checked there, and only then given its name."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from PIL import Image
from torch import Tensor

from fedapt_crypto.errors import InvalidInput, RunFailed, system_error
from fedapt_secure import __version__
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.export import onnx_file as onnx
from fedapt_secure.export import open_clip_files, preprocessing, torchscript_file
from fedapt_secure.export.accuracy_facts import accuracy_facts
from fedapt_secure.export.card import FILE as CARD
from fedapt_secure.export.card import CardFacts, ExportedFile, card
from fedapt_secure.export.checking import Answer, Checked, compare, made_images
from fedapt_secure.export.clip_facts import (
    CLIP_FOLDER,
    model_said,
    open_clip_arguments,
    own_text_model,
    preprocess_settings,
)
from fedapt_secure.export.graphs import graph_of
from fedapt_secure.export.howto import how_to
from fedapt_secure.export.privacy_facts import privacy_facts
from fedapt_secure.inference.predictor import Model, load_model
from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.unusable import UnusableImage

ONNX: Final = "onnx"
TORCHSCRIPT: Final = "torchscript"
OPEN_CLIP: Final = "open-clip"
FORMS: Final = (ONNX, TORCHSCRIPT, OPEN_CLIP)
OURS: Final = (
    onnx.MODEL,
    onnx.WEIGHTS_BESIDE,
    torchscript_file.MODEL,
    open_clip_files.ABOUT,
    open_clip_files.TUNED,
    open_clip_files.SCRIPT,
    CLIP_FOLDER,
    preprocessing.FILE,
    CARD,
)
"""What an export may leave in a folder, and a later one may therefore take away."""
_IMAGES_AT_ONCE: Final = 256  # each time some forms start a process
_PIXELS_AT_ONCE: Final = 100_000_000  # decoded, three bytes each
_LIBRARIES: Final = {
    ONNX: ("torch", "open_clip_torch", "onnx", "onnxruntime", "onnxscript"),
    TORCHSCRIPT: ("torch", "open_clip_torch"),
    OPEN_CLIP: ("torch", "open_clip_torch", "safetensors"),
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to export.

    Attributes:
        bundle: The file ``model.safetensors``.
        form: One of `FORMS`.
        out: Folder to make.
        force: Whether what an earlier export left there may be replaced.
        images: Files to check on, beside made images.
        logs: Logs for the card's privacy. trust: A roster whose identities are believed.
        evaluation: Figures for the card.
        pretrained: The CLIP's weights, where they lie elsewhere than the bundle says.
        prior_weight: How much of the untuned CLIP is kept; ``None`` for what the bundle says.
        reading: How DICOM and NIfTI files among the images are read.
    """

    bundle: Path
    form: str
    out: Path
    force: bool = False
    images: Sequence[Path] = ()
    logs: Sequence[Path] = ()
    trust: Path | None = None
    evaluation: Path | None = None
    pretrained: str | None = None
    prior_weight: float | None = None
    reading: ReadingOptions = AS_THEY_ARE


@dataclass(frozen=True)
class Exported:
    """What was made: the files, what was compared, and which images could not be used for that."""

    files: tuple[ExportedFile, ...]
    checked: Checked
    skipped: tuple[tuple[str, str], ...]
    opset: int | None


def export(wanted: Wanted) -> Exported:
    """Export a bundle, check the result against our own predictions, and write its card.

    Raises:
        InvalidInput: If something given cannot be read or used, or the folder is taken.
        RunFailed: If the result differs from ours; then nothing is kept.
        Unavailable: If the disk is full.
    """
    if wanted.form not in FORMS:
        raise InvalidInput(f"--to is {', '.join(FORMS[:-1])} or {FORMS[-1]}, not {wanted.form}")
    if wanted.form == ONNX:
        onnx.check_installed()
    _check_place(wanted.out, force=wanted.force)
    model = load_model(
        wanted.bundle,
        pretrained=wanted.pretrained,
        device="cpu",
        precision="float32",
        prior_weight=wanted.prior_weight,
    )
    digest = hashlib.sha256(wanted.bundle.read_bytes()).hexdigest()
    privacy = privacy_facts(wanted.logs, wanted.trust, digest) if wanted.logs else None
    accuracy = None if wanted.evaluation is None else accuracy_facts(wanted.evaluation, model.bundle)
    skipped: list[tuple[str, str]] = []
    with _new_folder(wanted.out) as folder:
        names, answer = _written(folder, wanted, model, digest)
        names += preprocessing.write_preprocessing(folder, model.classifier.backbone)
        checked = _checked(model, wanted, answer, skipped)
        files = tuple(_file(folder, name) for name in names)
        opset = onnx.OPSET if wanted.form == ONNX else None
        facts = CardFacts(
            form=wanted.form,
            bundle=model.bundle,
            digest=digest,
            files=files,
            checked=checked,
            privacy=privacy,
            accuracy=accuracy,
            versions=[("fedapt-secure", __version__)]
            + [(name, version(name)) for name in _LIBRARIES[wanted.form]],
            opset=opset,
            use=how_to(wanted.form, model.bundle, _size(model)),
        )
        (folder / CARD).write_text(card(facts), encoding="utf-8")
        files = (*files, _file(folder, CARD))
        _put_in_place(folder, wanted.out)
    return Exported(files, checked, tuple(skipped), opset)


def _size(model: Model) -> tuple[int, int]:
    height, width = preprocess_settings(model.classifier.backbone)["size"]
    return height, width


def _written(folder: Path, wanted: Wanted, model: Model, digest: str) -> tuple[list[str], Answer]:
    """Write a form; return the names of its files and what gives its answers."""
    bundle, classifier = model.bundle, model.classifier
    if wanted.form == OPEN_CLIP:
        names = open_clip_files.write_open_clip(folder, classifier, bundle, digest)
        left_out = _left_out(open_clip_arguments(bundle, classifier.backbone), model, wanted.pretrained)

        def script(images: Sequence[Image.Image], _: Tensor) -> Mapping[str, Tensor]:
            return open_clip_files.run_script(folder, images, left_out)

        return names, script
    properties = _properties(model, digest)
    graph = graph_of(classifier, _size(model))
    if wanted.form == ONNX:
        names = _tracing(partial(onnx.write_onnx, folder, graph, properties))
        session = onnx.session_of(folder)
        return names, lambda _, pixels: onnx.run_onnx(session, pixels)
    text = {torchscript_file.PROPERTIES: json.dumps(properties, indent=1)}
    names = _tracing(partial(torchscript_file.write_torchscript, folder, graph, text))
    return names, lambda _, pixels: torchscript_file.run_torchscript(folder, pixels)


def _left_out(arguments: Mapping[str, Any], model: Model, pretrained: str | None) -> dict[str, Any]:
    """Return what the script's user has to add about this machine, so that the check can run it."""
    if arguments["model_name"] is None:
        return {"model_name": model.bundle.model, **own_text_model(model.classifier.backbone)}
    if "pretrained" not in arguments or not arguments.get("load_weights", True):
        return {}
    weights = pretrained or (model.bundle.pretrained if arguments["pretrained"] is None else None)
    return {} if weights is None else {"pretrained": weights}


def _tracing(write: Callable[[], list[str]]) -> list[str]:
    try:
        return write()
    except (OSError, InvalidInput, RunFailed):
        raise
    except Exception as error:
        # Tracers fail in many ways on layers that they do not know; what to do is the same for all.
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise RunFailed(
            f"torch cannot trace this model: {reason[:200]}; --to open-clip needs no tracing"
        ) from error


def _properties(model: Model, digest: str) -> dict[str, str]:
    """Return what a file says of itself, as text."""
    bundle = model.bundle
    return {
        "class_names": json.dumps(bundle.class_names),
        "domains": json.dumps(bundle.key_names if bundle.keys is not None else ()),
        "method": bundle.shape.method,
        "model": model_said(bundle),
        "weight_hash": bundle.weight_hash,
        "bundle_sha256": digest,
        "logit_scale": repr(bundle.logit_scale),
        "temperature": repr(bundle.temperature),
        "prior_weight": repr(bundle.prior_weight),
        "opset": str(onnx.OPSET),
        "preprocess": json.dumps(preprocess_settings(model.classifier.backbone)),
        "fedapt_secure": __version__,
    }


def _checked(model: Model, wanted: Wanted, answer: Answer, skipped: list[tuple[str, str]]) -> Checked:
    """Compare on made images and on those that were given.

    Args:
        model: Ours.
        wanted: What was asked for.
        answer: What was made.
        skipped: Gets the name and reason of images that cannot be used.
    """
    classifier, batches = model.classifier, _batches(wanted, skipped)
    made, first = made_images(classifier), next(batches, [])
    total = compare(classifier, made + first, answer, given=len(first))
    if wanted.form == ONNX:  # a tracer may have taken one size for all
        compare(classifier, made[:1], answer, given=0)
    for images in batches:
        total += compare(classifier, images, answer, given=len(images))
    if skipped and not total.given:
        name, reason = skipped[0]
        raise InvalidInput(f"none of the {len(skipped)} images can be used; the first, {name}: {reason}")
    return total


def _batches(wanted: Wanted, skipped: list[tuple[str, str]]) -> Iterator[list[Image.Image]]:
    """Yield the images of files, as many at once as fit into some hundred megabytes."""
    batch: list[Image.Image] = []
    for path in wanted.images:
        batch += _opened(path, wanted.reading, skipped)
        if len(batch) >= _IMAGES_AT_ONCE or sum(one.width * one.height for one in batch) >= _PIXELS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _opened(path: Path, reading: ReadingOptions, skipped: list[tuple[str, str]]) -> Iterator[Image.Image]:
    try:
        yield open_rgb(path.read_bytes(), reading)
    except UnusableImage as error:
        skipped.append((str(path), str(error)))
    except (OSError, ValueError) as error:
        skipped.append((str(path), getattr(error, "strerror", None) or "cannot be read"))


def _file(folder: Path, name: str) -> ExportedFile:
    digest = hashlib.sha256()
    with (folder / name).open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return ExportedFile(name, (folder / name).stat().st_size, digest.hexdigest())


def _check_place(out: Path, *, force: bool) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InvalidInput(f"{out} is no folder: name another place")
    if not out.exists():
        if not out.parent.is_dir():
            raise InvalidInput(f"cannot write {out}: there is no folder {out.parent}")
    elif any(out.iterdir()) and not force:
        raise InvalidInput(
            f"{out} is there already: name another folder, or replace what an earlier export left in it with"
            " --force"
        )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside the place where it is to be; it is removed if it is still there afterwards."""
    try:
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:100]}."))
    except OSError as error:
        raise system_error(f"cannot write {out}", error) from None
    try:
        yield folder
    except OSError as error:
        raise system_error(f"cannot write {out}", error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    if not out.exists():
        os.rename(folder, out)  # noqa: PTH104 - the same
        return
    for name in OURS:
        old = out / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for made in folder.iterdir():
        made.rename(out / made.name)
