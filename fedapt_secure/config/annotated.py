"""Settings files that explain themselves: every setting with a comment, written from one template.

A template is YAML with ``{field}`` where a chosen value goes. Its test is that it names every field of its
model and shows the default of each that is not chosen.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedapt_crypto.private_files import write_atomically

_PLACE = re.compile(r"\{(\w+)\}")


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Return the template with its places filled; values are written so that YAML reads them back."""
    # JSON is YAML, and quotes what would otherwise be read as a number, a date or a comment.
    return _PLACE.sub(lambda found: json.dumps(values[found[1]], ensure_ascii=False), template)


def write_annotated(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write a filled template for its owner only, whole or not at all."""
    write_atomically(path, fill(template, values).encode())
