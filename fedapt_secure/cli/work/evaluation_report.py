"""The work of ``fedapt-secure evaluate``: measure, print, write figures and pictures."""

import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from fedapt_crypto.errors import system_error
from fedapt_crypto.private_files import make_private_folder, write_atomically
from fedapt_secure.cli.options import console
from fedapt_secure.inference import pictures
from fedapt_secure.inference.evaluating import Evaluation, evaluate_on
from fedapt_secure.inference.labelled import read_labelled
from fedapt_secure.inference.predictor import Model
from fedapt_secure.learning.data.reading.unused import count_usage
from fedapt_secure.learning.evaluation.tally import routing_matrix
from fedapt_secure.process.screen import Screen
from fedapt_secure.process.streams import say, say_json

FIGURES_FILE: Final = "evaluation.json"
OUTSIDE: Final = (
    "These figures follow from the images without noise: publishing them is outside the privacy guarantee."
)
_MOST_NAMED: Final = 5


def run_evaluation(model: Model, data: Path, *, split: str, out: Path | None, as_json: bool) -> None:
    """Evaluate, print the figures, and write them with pictures where a folder is given.

    Raises:
        InvalidInput: If data or split cannot be used, or the folder cannot be written.
    """
    labelled = read_labelled(data, model.class_names, split, model.reading)
    total = sum(len(records) for records in labelled.by_domain.values())
    with Progress(console=Screen(stderr=True), transient=True) as progress:
        task = progress.add_task("classifying", total=total)
        found = evaluate_on(model, labelled, lambda count: progress.advance(task, count))
    fields = {"data": str(data), "split": split, "method": model.bundle.shape.method} | found.to_fields()
    for one in fields["skipped"][:_MOST_NAMED]:
        say(f"skipped {one['name']}: {one['reason']}", err=True)
    if fields["skipped"]:
        say(f"{len(fields['skipped'])} images could not be used", err=True)
    used = count_usage(total, labelled.unused)
    fields["unused"] = [{"name": one.name, "reason": one.reason} for one in labelled.unused]
    if used.unused:
        say(used.in_words(), err=True)
    if as_json:
        say_json(fields)
    else:
        _print(console(), fields)
    if out is not None:
        _write(out, found, fields)
    say(OUTSIDE, err=True)


def _write(out: Path, found: Evaluation, fields: dict[str, Any]) -> None:
    try:
        if not out.exists():
            make_private_folder(out)  # the figures follow from images: they are for their owner
        write_atomically(out / FIGURES_FILE, (json.dumps(fields, indent=2) + "\n").encode())
    except OSError as error:
        raise system_error(f"cannot write to {out}", error) from None
    written = [out / FIGURES_FILE]
    if pictures.can_draw():
        counts = found.total.confusion(len(found.class_names))
        written += pictures.draw_confusion(out, counts, found.class_names)
        if found.keys:
            counts = routing_matrix(found.by_domain, len(found.keys))
            written += pictures.draw_routing(out, counts, list(found.by_domain), found.keys)
    else:
        say(pictures.NO_MATPLOTLIB, err=True)
    say(f"written: {', '.join(map(str, written))}", err=True)


def _print(screen: Console, fields: dict[str, Any]) -> None:
    screen.print(_domains(fields))
    screen.print(_classes(fields))
    screen.print(
        f"{fields['images']} images ({fields['split']}): top-1 {fields['top_1']:.1%},"
        f" top-5 {fields['top_5']:.1%}, mean recall of classes {fields['mean_recall']:.1%}"
    )


def _domains(fields: dict[str, Any]) -> Table:
    table = Table(title="By domain")
    for column in ("domain", "images", "top-1", "top-5", "right key"):
        table.add_column(column, justify="left" if column == "domain" else "right")
    for name, one in fields["per_domain"].items():
        shares = [_share(one[key]) for key in ("top_1", "top_5", "right_key")]
        table.add_row(escape(name), str(one["images"]), *shares)
    if len(fields["per_domain"]) > 1:
        mean = fields["mean_over_domains"]
        table.add_section()
        table.add_row("[bold]mean", "", _share(mean["top_1"]), _share(mean["top_5"]), "")
    return table


def _classes(fields: dict[str, Any]) -> Table:
    table = Table(title="By class")
    for column in ("class", "images", "recall", "precision"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for one in fields["per_class"]:
        shares = (_share(one["recall"]), _share(one["precision"]))
        table.add_row(escape(one["name"]), str(one["support"]), *shares)
    return table


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
