"""``fedapt-secure cache show`` and ``clear``: the features that institutions keep of their images."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.cli.options import AsJson, ask, console
from fedapt_secure.process.shown import shown
from fedapt_secure.process.streams import say, say_json

if TYPE_CHECKING:
    from fedapt_secure.learning.data.features.store import StoreSummary

HERE: Final = Path()
REMAINS: Final = (
    "the files are unlinked, not overwritten: on solid-state disks, in snapshots and on copy-on-write file"
    " systems old blocks may remain"
)

app = typer.Typer(
    name="cache", help="Features that were computed of images: show and clear.", no_args_is_help=True
)

Where = Annotated[
    Path,
    typer.Option(
        "--dir",
        help="An institution's folder, a run folder or a folder of features (default: the current one).",
    ),
]


@dataclass(frozen=True)
class _Cache:
    """A cache and whose it is."""

    owner: str
    path: Path


@app.command()
def show(directory: Where = HERE, as_json: AsJson = False) -> None:
    """Show which models' features are kept, of how many images, how large they are and when last used."""
    from fedapt_secure.learning.data.features.store import summaries  # noqa: PLC0415 - numpy

    found = [(cache, one) for cache in find_caches(directory) for one in summaries(cache.path)]
    if as_json:
        say_json({"stores": [_fields(cache, one) for cache, one in found]})
        return
    if not found:
        say("no features are kept")
        return
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table()
    for title in ("owner", "model", "weights", "view", "precision", "images", "MiB", "last used (UTC)"):
        table.add_column(title, justify="right" if title in ("images", "MiB") else "left")
    for cache, one in found:
        fields = _fields(cache, one)
        weights = (fields["weights"] or "not known")[:12]
        table.add_row(
            escape(cache.owner),
            escape(fields["model"] or "not known"),
            escape(weights),
            escape(fields["view"] or "not known"),
            escape(fields["precision"] or "not known"),
            str(one.images),
            f"{one.size_bytes / 2**20:.1f}",
            f"{one.last_used:%Y-%m-%d %H:%M}",
        )
    console().print(table)
    if any(one.identity is None for _, one in found):
        say("not known: the store's description is damaged; 'cache clear' without --model removes it")


@app.command()
def clear(
    directory: Where = HERE,
    model: Annotated[str | None, typer.Option(help="Only this model's features.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete kept features; the next run computes them again."""
    from fedapt_secure.learning.data.features.store import clear as delete  # noqa: PLC0415 - numpy
    from fedapt_secure.learning.data.features.store import summaries  # noqa: PLC0415

    caches = find_caches(directory)
    models = {one.identity.model for cache in caches for one in summaries(cache.path) if one.identity}
    if model is not None and model not in models:
        known = f"there are {', '.join(sorted(models))}" if models else "there are none at all"
        raise InvalidInput(f"there are no features of the model {model!r} in {directory}: {known}")
    there = [cache for cache in caches if cache.path.is_dir()]
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("nobody can be asked: give --yes to delete the features")
        whose = ", ".join(cache.owner for cache in there) or "nobody"
        ask(f"Delete the features of {shown(model or 'all models')} kept by {shown(whose)}?", abort=True)
    freed = sum(delete(cache.path, model) for cache in there)
    say(f"deleted {freed / 2**20:.1f} MiB; {REMAINS}")


def find_caches(directory: Path) -> list[_Cache]:
    """Return the caches that a folder stands for; one that was not made yet may be among them.

    Raises:
        InvalidInput: If it is neither an institution's folder, nor a run folder, nor a folder of features.
    """
    from fedapt_client.settings import SETTINGS_FILE  # noqa: PLC0415
    from fedapt_secure.learning.data.features.store import holds_stores  # noqa: PLC0415

    if (directory / SETTINGS_FILE).is_file():
        return [_of_institution(directory)]
    if holds_stores(directory):
        return [_Cache(directory.resolve().name, directory)]
    try:
        inside = sorted(path for path in directory.iterdir() if path.is_dir())
        parties = directory / "parties"
        members = sorted(parties.iterdir()) if parties.is_dir() else []
    except OSError as error:
        raise system_error(f"cannot look into {directory}", error) from None
    institutions = [path for path in members if (path / SETTINGS_FILE).is_file()]
    found = [_of_institution(path) for path in institutions]
    found = found or [_Cache(path.name, path) for path in inside if holds_stores(path)]
    if not found:
        raise InvalidInput(
            f"there is no feature cache in {directory}: name an institution's folder, a run folder or a"
            " folder of features with --dir"
        )
    return found


def _of_institution(folder: Path) -> _Cache:
    from fedapt_client.settings import read_settings  # noqa: PLC0415

    settings = read_settings(folder)
    return _Cache(settings.name, folder / settings.cache)


def _fields(cache: _Cache, one: "StoreSummary") -> dict[str, Any]:
    known = one.identity
    return {
        "owner": cache.owner,
        "path": str(one.path),
        "model": known and known.model,
        "weights": known and known.weights,
        "view": known and known.view,
        "precision": known and known.precision,
        "images": one.images,
        "bytes": one.size_bytes,
        "last_used": one.last_used.isoformat(timespec="seconds"),
    }
