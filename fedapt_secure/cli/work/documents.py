"""The documents, units and examples that come with the package: where they lie, and one by its name.

They lie inside the installed package, laid out as in the project's folder, so that links between them hold.
In a checkout that is the project's folder itself.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fedapt_secure
from fedapt_crypto.errors import InvalidInput

FOLDER: Final = "documents"
KINDS: Final = {
    "": ("*.md", "LICENSE", "constraints.txt", "requirements-audit.txt"),
    "configs": ("*.yaml", "paper/*"),
    "client": ("*.md", "*.yaml", "Dockerfile", "systemd/*", "offline/*"),
    "crypto": ("*.md", "model/*"),
    "docs": ("*.md", "decisions/*.md", "images/*.svg", "images/*.png", "results/*"),
    "server": ("*.md", "*.yaml", "*.txt", "Dockerfile", "systemd/*"),
}
"""What of each folder belongs to the documents; pyproject.toml puts the same into the package."""


@dataclass(frozen=True)
class Document:
    """One file.

    Attributes:
        name: Where it lies below the folder of all documents, ``client/RUNBOOK.md``.
        path: Where it lies on this machine.
    """

    name: str
    path: Path

    @property
    def title(self) -> str:
        """The heading of a document; empty for what is none."""
        if self.path.suffix != ".md":
            return ""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")


def folder() -> Path:
    """Return where the documents lie.

    Raises:
        InvalidInput: If this installation has none.
    """
    package = Path(fedapt_secure.__file__).parent
    for place in (package / FOLDER, package.parent):
        if (place / "client" / "RUNBOOK.md").is_file():
            return place
    raise InvalidInput("this installation has no documents: install the package from its wheel")


def documents() -> list[Document]:
    """Return all documents, by name."""
    top = folder()
    found = {
        path.relative_to(top).as_posix(): path
        for room, patterns in KINDS.items()
        for pattern in patterns
        for path in (top / room).glob(pattern)
        if path.is_file()
    }
    return [Document(name, found[name]) for name in sorted(found)]


def find(wanted: str) -> Document:
    """Return a document by its name, or by as much of the name's end as says which.

    Args:
        wanted: ``client/RUNBOOK.md``, ``client/RUNBOOK``, ``deploy.md`` or ``fedapt-client.service``.

    Raises:
        InvalidInput: If there is none, or several.
    """
    known = documents()
    for suffix in (False, True):
        names = [(one.name.rsplit(".", 1)[0] if suffix else one.name, one) for one in known]
        exact = [one for name, one in names if name == wanted]
        ends = [one for name, one in names if name.endswith(f"/{wanted}")]
        for found in (exact, ends):
            if len(found) == 1:
                return found[0]
        if ends:
            raise InvalidInput(f"{wanted!r} is the end of several: {', '.join(one.name for one in ends)}")
    parts = [part for one in known for part in (one.name, one.path.name, one.path.stem)]
    near = difflib.get_close_matches(wanted, parts, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise InvalidInput(f"there is no document {wanted!r}{hint}; 'fedapt-secure docs' lists them")
