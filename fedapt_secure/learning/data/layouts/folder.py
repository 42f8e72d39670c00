"""Any folder ``domain/class/image``, and any manifest with a column ``domain``.

The classes are those of all domains together; a domain may lack some, as an institution may in a session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.layouts.layout import DomainSet, choose_domains
from fedapt_secure.learning.data.reading.classes import all_classes
from fedapt_secure.learning.data.reading.listing import Listed, Listing, list_class_folders, list_folders
from fedapt_secure.learning.data.reading.manifest import read_manifest
from fedapt_secure.learning.data.reading.records import numbered

ONLY_DOMAIN: Final = "all"
"""What the domain of a manifest is called that names none."""


@dataclass(frozen=True)
class AnyFolder:
    """A folder ``domain/class/image``; the subfolders are the domains."""

    def read(self, root: Path, wanted: Sequence[str]) -> DomainSet:
        """List the images; open none of them.

        Args:
            root: The folder.
            wanted: Names of the domains to read; empty for all.

        Raises:
            InvalidInput: If there is no domain, a domain has no image, or classes are named ambiguously.
        """
        folders = {folder.name: folder for folder in list_folders(root)}
        if not folders:
            raise InvalidInput(f"there is no domain folder in {root}: expected DOMAIN/CLASS/IMAGE below it")
        found = {}
        for domain in choose_domains(tuple(folders), wanted, root):
            found[domain] = list_class_folders(folders[domain], f"{domain}/", domain)
            if not found[domain].images:
                raise InvalidInput(
                    f"there is no image in {folders[domain]}: expected DOMAIN/CLASS/IMAGE below {root}"
                )
        return _domain_set(found)


@dataclass(frozen=True)
class AnyManifest:
    """A manifest; without a column ``domain`` all images are of one domain."""

    def read(self, root: Path, wanted: Sequence[str]) -> DomainSet:
        """List the images; open none of them.

        Args:
            root: The CSV file.
            wanted: Names of the domains to read; empty for all.

        Raises:
            InvalidInput: If the manifest cannot be used, or classes are named ambiguously.
        """
        by_domain: dict[str, list[Listed]] = {}
        for image in read_manifest(root):
            by_domain.setdefault(image.domain or ONLY_DOMAIN, []).append(image)
        if not by_domain:
            raise InvalidInput(f"there is no image in {root}: its lines are PATH,LABEL")
        chosen = choose_domains(sorted(by_domain), wanted, root)
        return _domain_set({domain: Listing(tuple(by_domain[domain])) for domain in chosen})


def _domain_set(found: dict[str, Listing]) -> DomainSet:
    class_names = all_classes(
        [(domain, {image.class_name for image in one.images}) for domain, one in found.items()]
    )
    return DomainSet(
        class_names,
        {domain: numbered(one.images, class_names, domain) for domain, one in found.items()},
        tuple(left_out for one in found.values() for left_out in one.left_out),
    )
