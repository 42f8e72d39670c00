"""The work of ``fedapt-secure export``: export, then say what was made and what was compared."""

from collections.abc import Callable
from dataclasses import asdict, replace

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.work.prediction_report import images_of
from fedapt_secure.export.exporting import TORCHSCRIPT, Exported, Wanted, export
from fedapt_secure.export.onnx_file import WEIGHTS_BESIDE
from fedapt_secure.export.torchscript_file import DEPRECATED
from fedapt_secure.process.streams import say, say_json

_MOST_NAMED = 5


def run_export(wanted: Wanted) -> Callable[[bool], None]:
    """Export, and return what then prints the answer, as JSON or not.

    Raises:
        InvalidInput: As `export`, and where the images named hold none.
        RunFailed: As `export`.
    """
    images = list(images_of(wanted.images, []))
    if wanted.images and not images:
        raise InvalidInput("there is no image in what --images names")
    made = export(replace(wanted, images=images))
    return lambda as_json: _print(wanted, made, as_json=as_json)


def _print(wanted: Wanted, made: Exported, *, as_json: bool) -> None:
    for name, reason in made.skipped[:_MOST_NAMED]:
        say(f"skipped {name}: {reason}", err=True)
    if made.skipped:
        say(f"{len(made.skipped)} images could not be used", err=True)
    if wanted.form == TORCHSCRIPT:
        say(DEPRECATED, err=True)
    if as_json:
        say_json(_fields(wanted, made))
        return
    for one in made.files:
        say(f"{wanted.out / one.name}  {one.size_bytes:,} bytes")
    checked = made.checked
    say(
        f"same labels as predict on {checked.images} images, {checked.given} of them given; logits differ by"
        f" {checked.largest:.1e} of the largest"
    )
    if checked.between is not None:
        say(f"between two keys: {checked.between} images; at a tie: {checked.ties}")
    if WEIGHTS_BESIDE in {one.name for one in made.files}:
        say(f"the weights lie beside the model, in {WEIGHTS_BESIDE}: keep both files together")


def _fields(wanted: Wanted, made: Exported) -> dict[str, object]:
    return {
        "form": wanted.form,
        "opset": made.opset,
        "files": [{"name": one.name, "bytes": one.size_bytes, "sha256": one.digest} for one in made.files],
        "checked": asdict(made.checked),
        "skipped": [{"name": name, "reason": reason} for name, reason in made.skipped],
    }
