"""Which layouts there are, by the name that ``--dataset`` takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.layouts.domainnet import DOMAINNET
from fedapt_secure.learning.data.layouts.folder import AnyFolder, AnyManifest
from fedapt_secure.learning.data.layouts.layout import DomainSet, Layout
from fedapt_secure.learning.data.layouts.office31 import OFFICE31
from fedapt_secure.learning.data.layouts.office_caltech10 import OFFICE_CALTECH10
from fedapt_secure.learning.data.layouts.officehome import OFFICEHOME
from fedapt_secure.learning.data.layouts.pacs import PACS
from fedapt_secure.learning.data.reading.manifest import is_manifest

FOLDER: Final = "folder"
LAYOUTS: Final[Mapping[str, Layout]] = MappingProxyType(
    {
        FOLDER: AnyFolder(),
        "domainnet": DOMAINNET,
        "office-caltech10": OFFICE_CALTECH10,
        "pacs": PACS,
        "officehome": OFFICEHOME,
        "office31": OFFICE31,
    }
)


def read_domains(layout: str, root: Path, wanted: Sequence[str] = ()) -> DomainSet:
    """List the images of a data set of several domains; open none of them.

    Args:
        layout: A name in `LAYOUTS`.
        root: Its folder; for ``folder`` also a manifest.
        wanted: Names of the domains to read; empty for all.

    Raises:
        InvalidInput: If the data set is not there, not complete, or contradicts itself.
    """
    if is_manifest(root):
        if layout != FOLDER:
            raise InvalidInput(f"{root} is a manifest: use it with --dataset {FOLDER}, not {layout}")
        return AnyManifest().read(root, wanted)
    return LAYOUTS[layout].read(root, wanted)
