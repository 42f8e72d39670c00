"""``fedapt-secure predict``, ``evaluate``, ``export``, ``model-info``: a finished model, and a CLIP."""

from pathlib import Path
from typing import Annotated

import typer

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.commands.reading_options import Axis, Frame, Slice, Window, reading_options
from fedapt_secure.cli.options import AsJson, within
from fedapt_secure.config import model_identity, ranges
from fedapt_secure.process.screen import Screen

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The finished model, model.safetensors.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[str, typer.Option(help="Of the CLIP: float32, bfloat16, or auto: bfloat16 on GPUs.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images at once; bounds the memory (default 64, on GPUs up to 256).",
        show_default=False,
        callback=within(ranges.IMAGES_AT_ONCE),
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(help="The CLIP's weights, where they lie elsewhere here than where the model was tuned."),
]
Activation = Annotated[
    str | None,
    typer.Option(help="quick-gelu or gelu, for a checkpoint file that nobody knows.", show_default=False),
]
PriorWeight = Annotated[
    float | None,
    typer.Option(
        help="How much of the untuned model to keep, 0 to 1 (default: what the model says).",
        show_default=False,
        callback=within(ranges.PRIOR_WEIGHT),
    ),
]


def predict(
    bundle: BundleFile,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files, or folders.")],
    top: Annotated[
        int,
        typer.Option(
            help="How many of the most probable classes to name.", callback=within(ranges.CLASSES_NAMED)
        ),
    ] = 1,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = None,
    pretrained: Pretrained = None,
    activation: Activation = None,
    prior_weight: PriorWeight = None,
    window: Window = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
) -> None:
    """Classify images: label, probability, and the domain whose knowledge was used."""
    if as_json and as_csv:
        raise InvalidInput("--json and --csv exclude each other: give one")
    reading = reading_options("predict", window, frame, axis, slice_)
    with Screen(stderr=True).status("loading the model"):
        from fedapt_secure.cli.work.prediction_report import print_predictions  # noqa: PLC0415 - torch, seconds
        from fedapt_secure.inference.predictor import load_model  # noqa: PLC0415

        model = load_model(
            bundle,
            pretrained=pretrained,
            device=device,
            precision=precision,
            batch_size=batch_size,
            activation=chosen_activation(activation),
            prior_weight=prior_weight,
            reading=reading,
        )
    print_predictions(model, images, top=top, form="json" if as_json else "csv" if as_csv else "text")


def evaluate(
    bundle: BundleFile,
    data: Annotated[
        Path, typer.Option(help="DOMAIN/CLASS/IMAGE or CLASS/IMAGE folders, or a CSV manifest (path,label).")
    ],
    split: Annotated[
        str, typer.Option(help="test: the part that training never sees; train; or all.")
    ] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder for the figures and pictures.")] = None,
    as_json: AsJson = False,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = None,
    pretrained: Pretrained = None,
    activation: Activation = None,
    prior_weight: PriorWeight = None,
    window: Window = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
) -> None:
    """Measure a finished model on your own labelled images. Nothing leaves this machine."""
    reading = reading_options("evaluate", window, frame, axis, slice_)
    with Screen(stderr=True).status("loading the model"):
        from fedapt_secure.cli.work.evaluation_report import run_evaluation  # noqa: PLC0415 - torch, seconds
        from fedapt_secure.inference.predictor import load_model  # noqa: PLC0415

        model = load_model(
            bundle,
            pretrained=pretrained,
            device=device,
            precision=precision,
            batch_size=batch_size,
            activation=chosen_activation(activation),
            prior_weight=prior_weight,
            reading=reading,
        )
    run_evaluation(model, data, split=split, out=out, as_json=as_json)


def export(
    bundle: BundleFile,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    to: Annotated[str, typer.Option(help="onnx, torchscript or open-clip.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Images to check the result on, file or folder; repeatable. Some are made anyway."),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(help="Logs of the model's session, for the card's privacy; repeatable."),
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(metavar="ROSTER", help="With --log: roster.json that you approved.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What 'evaluate --json' printed, for the card's accuracy."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in OUT.")] = False,
    as_json: AsJson = False,
    pretrained: Pretrained = None,
    prior_weight: PriorWeight = None,
    window: Window = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
) -> None:
    """Write a finished model for other programs, checked against our own predictions, with a model card."""
    if trust is not None and not log:
        raise InvalidInput("--trust says whose logs to believe: give --log as well")
    reading = reading_options("export", window, frame, axis, slice_)
    with Screen(stderr=True).status("exporting"):
        from fedapt_secure.cli.work.export_report import run_export  # noqa: PLC0415 - torch, seconds
        from fedapt_secure.export.exporting import Wanted  # noqa: PLC0415

        wanted = Wanted(
            bundle=bundle,
            form=to,
            out=out,
            force=force,
            images=images or (),
            logs=log or (),
            trust=trust,
            evaluation=evaluation,
            pretrained=pretrained,
            prior_weight=prior_weight,
            reading=reading,
        )
        done = run_export(wanted)
    done(as_json)


def model_info(
    model: Annotated[str, typer.Option(help="open_clip model, or tiny.")] = "tiny",
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag, checkpoint file, or random.")] = None,
    activation: Activation = None,
    words: Annotated[
        str | None, typer.Option(help="Words that contexts are to start from, such as 'a photo of a'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what session.yaml has to say of a CLIP: hash of its weights, and sizes."""
    with Screen(stderr=True).status("loading the model"):
        from fedapt_secure.cli.work.model_report import print_model  # noqa: PLC0415 - torch, seconds
    print_model(model, pretrained, chosen_activation(activation), words, as_json=as_json)


def chosen_activation(word: str | None) -> "model_identity.Activation | None":
    """Return the activation that an option names.

    Raises:
        InvalidInput: If there is none of that name.
    """
    for one in model_identity.ACTIVATIONS:
        if word == one:
            return one
    if word is not None:
        raise InvalidInput(f"--activation is {' or '.join(model_identity.ACTIVATIONS)}, not {word}")
    return None
