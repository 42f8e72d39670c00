"""An institution's own class counts, for its own console: they are data, and go into no log or message."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions


def print_balance(
    console: Console, data: Path, class_names: tuple[str, ...] | None, reading: ReadingOptions = AS_THEY_ARE
) -> None:
    """Print how many images of each class lie here, and which of a session's classes have none.

    Nothing is printed where the images cannot be listed: the session says what is wrong with them.

    Args:
        console: Where to.
        data: The institution's folder or manifest.
        class_names: The session's classes, to say which are absent; ``None`` before one is offered.
        reading: Whether each frame of a DICOM file is an image.
    """
    from fedapt_secure.learning.data.reading.balance import (  # noqa: PLC0415
        count_classes,
        in_words,
    )
    from fedapt_secure.learning.data.reading.copies import equal_files, equal_in_words  # noqa: PLC0415
    from fedapt_secure.learning.data.reading.records import UNLABELLED, read_unlabelled  # noqa: PLC0415
    from fedapt_secure.learning.data.reading.unused import unused_files, usage  # noqa: PLC0415

    try:
        records = read_unlabelled(data, class_names, reading)
    except InvalidInput as error:
        if class_names is not None:
            _print(console, str(error), "yellow")
        return
    balance = count_classes(records)
    without = sum(record.label == UNLABELLED for record in records.records)
    if class_names is None:
        counts = [f"{name} {count}" for name, count in reversed(balance.ranked)]
        if counts:
            _print(
                console, f"images here    {balance.total} of {len(counts)} classes: {in_words(counts, 20)}"
            )
        if without:
            _print(console, f"without label  {without} images")
        if equal := equal_files(record.path for record in records.records):
            _print(console, equal_in_words(equal), "yellow")
        if said := usage(data, records, unused_files(data, records, labelled=False), ()).in_words():
            _print(console, said, "yellow")
    elif balance.absent and not without:
        _print(console, f"of these classes there is no image here: {in_words(balance.absent)}", "yellow")


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(escape(text), style=style, highlight=False, soft_wrap=True)
