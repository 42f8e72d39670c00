"""What a page consists of: the party's package says it, this room serves it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Site:
    """The pages of one kind of party.

    Attributes:
        title: What it is called, in the browser's title.
        templates: The folder of its templates.
        pages: Path and heading of each page, in the order of the menu; ``/`` first. The template of ``/x`` is
            ``x.html.j2``, that of ``/`` is ``now.html.j2``.
        functions: What its templates call, by name.
        actions: What a form may ask for, by the last part of its path: the fields that it carries.
    """

    title: str
    templates: Path
    pages: Mapping[str, str]
    actions: Mapping[str, tuple[str, ...]]
    functions: Mapping[str, Callable[..., object]] = field(default_factory=dict)

    def template(self, path: str) -> str:
        """Return the name of a page's template."""
        return f"{path.removeprefix('/') or 'now'}.html.j2"
