"""Options that `simulate` and `compare` share: what is trained on which images, and where."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

PRIVACY: Final = "Privacy and protection"
TRAINING: Final = "Training"
DATA: Final = "Model and data"
RUN: Final = "Run"


def option(help_text: str, panel: str, *names: str) -> Any:
    """Return an option that ``--help`` shows in a panel."""
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


Clients = Annotated[
    int | None,
    option(
        "Number of institutions (default one a domain; 5 for digits; of these above 20 synthetic).",
        TRAINING,
    ),
]
InstitutionsPerDomain = Annotated[
    int | None, option("Institutions of each domain, in place of --clients.", TRAINING)
]
Rounds = Annotated[int | None, option("Rounds (default 30).", TRAINING)]
LocalSteps = Annotated[int | None, option("Steps of each institution a round (default 4).", TRAINING)]
SampleRate = Annotated[float | None, option("Share of records drawn for a step, q (default 0.5).", TRAINING)]
ContextTokens = Annotated[int | None, option("Learned tokens of a prompt (default 16).", TRAINING)]
SecureAggregation = Annotated[str | None, option("masking, ckks or none (default masking).", PRIVACY)]
Model = Annotated[str | None, option("open_clip model, or tiny (default tiny).", DATA)]
Pretrained = Annotated[str | None, option("open_clip tag, checkpoint file, or random.", DATA)]
Activation = Annotated[
    str | None, option("quick-gelu or gelu, for a checkpoint file that nobody knows.", DATA)
]
Dataset = Annotated[
    str | None,
    option(
        "digits, digits-flipped, folder, domainnet, office-caltech10, pacs, officehome or office31"
        " (default digits).",
        DATA,
    ),
]
DataRoot = Annotated[
    Path | None, option("The data set: DATA_ROOT/domain/class/image, or a CSV manifest.", DATA)
]
Domains = Annotated[str | None, option("Which of its domains, separated by commas (default all).", DATA)]
Classes = Annotated[str | None, option("Which of its classes, separated by commas (default all).", DATA)]
UnseenDomain = Annotated[
    str | None,
    option("Leave this domain out and evaluate on it; or all: each in turn, a run each.", DATA),
]
SubjectsFrom = Annotated[
    str | None,
    option("dicom: the PatientID of DICOM files, as a keyed hash, says whose an image is.", DATA),
]
Window = Annotated[
    str | None,
    option("CENTER,WIDTH of the grey values of DICOM and NIfTI that are shown (default: the file's).", DATA),
]
Frame = Annotated[
    str | None, option("Of DICOM files of several frames: middle, a number from 1, or all.", DATA)
]
Axis = Annotated[int | None, option("Along which axis NIfTI volumes are cut: 0, 1 or 2 (default 2).", DATA)]
Slice = Annotated[str | None, option("Which slice of NIfTI volumes: middle, or a number from 1.", DATA)]
MaxUnused = Annotated[
    float | None, option("Largest share of files that may be of no use (default 0.2).", DATA)
]
Dirichlet = Annotated[
    float | None,
    option("α: skew the classes among the institutions of a domain (default: even shares).", DATA),
]
DirichletOver = Annotated[
    str | None,
    option("classes, or clients: institutions of different sizes, as papers deal (default classes).", DATA),
]
TestShare = Annotated[
    float | None,
    option("Share of each class to hold out, by --seed; with --no-dp (default: by the files).", DATA),
]
BatchSize = Annotated[
    int | None,
    option("With --no-dp: images of a step, in passes over all (default: draws with q).", TRAINING),
]
LocalEpochs = Annotated[int | None, option("With --batch-size: passes a round (default 1).", TRAINING)]
FewShot = Annotated[int | None, option("Training images a class at each institution; with --no-dp.", DATA)]
Template = Annotated[
    str | None,
    option("Prompt of zero-shot CLIP with {} for the class, or imagenet or imagenet-7.", DATA),
]
Cache = Annotated[
    Path | None,
    option(
        "Folder of lasting features, so that later runs on the same images need not encode them again;"
        " as sensitive as the images (default: inside the run folder).",
        DATA,
    ),
]
Device = Annotated[str | None, option("auto, cpu or cuda (default auto).", RUN)]
