"""``fedapt-secure client rehearse``: what a session would be here, before anything is spent."""

from pathlib import Path
from typing import Annotated, Final

import typer

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.commands.client_run import read_settings
from fedapt_secure.cli.commands.reading_options import Axis, Frame, Slice, Window, reading_options
from fedapt_secure.cli.options import AsJson, Folder, PassphraseFile, console, open_folder
from fedapt_secure.process.streams import say_json

HERE: Final = Path()


def rehearse(
    directory: Folder = HERE,
    plan: Annotated[
        Path | None,
        typer.Option(help="The coordinator's session.yaml, instead of the session that it offers now."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The images, instead of those that client.yaml names.")
    ] = None,
    window: Window = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
    as_json: AsJson = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Do all of a session that spends nothing: images, model, a step, the budget; say what it would cost.

    Encoded images stay in the cache for the session. Status 2 where the session would be refused.
    """
    from fedapt_client.membership.offer import offered, planned  # noqa: PLC0415
    from fedapt_secure.cli.work.running.encoding_bar import EncodingBar  # noqa: PLC0415

    folder = open_folder(directory, passphrase_file)
    settings = read_settings(folder)
    reading = reading_options("client rehearse", window, frame, axis, slice_, settings.reading)
    settings = settings.model_copy(update={"data": (data or settings.data).absolute(), "reading": reading})
    configuration = offered(folder, settings) if plan is None else planned(plan, folder.roster())

    from fedapt_client.rehearsal import rehearse_alone  # noqa: PLC0415 - torch, seconds
    from fedapt_secure.cli.work.rehearsal_report import print_rehearsal, rehearsal_fields  # noqa: PLC0415

    with EncodingBar() as bar:
        found = rehearse_alone(folder, settings, configuration, bar)
    if as_json:
        say_json(rehearsal_fields(found))
    else:
        print_rehearsal(console(), found, configuration)
    if found.reason is not None:
        raise InvalidInput(f"the session would be refused: {found.sentence}")
