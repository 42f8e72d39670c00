"""Published data sets of the form ``domain/class/image``: known domains, a known number of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.layouts.layout import DomainSet, choose_domains, folded
from fedapt_secure.learning.data.reading.classes import agreed_classes, class_differences
from fedapt_secure.learning.data.reading.listing import Listing, list_class_folders, list_folders
from fedapt_secure.learning.data.reading.records import numbered


@dataclass(frozen=True)
class DomainFolders:
    """A layout ``root/domain/class/image``; other folders beside the domains do not count.

    Attributes:
        title: What the data set is called.
        domains: Its domains; case, spaces, ``_`` and ``-`` of the folders may differ.
        class_names: Its classes, to say what is missing; copies may spell them otherwise.
        inner_folder: A folder that some copies have between domain and class.
    """

    title: str
    domains: tuple[str, ...]
    class_names: tuple[str, ...]
    inner_folder: str | None = None

    def read(self, root: Path, wanted: Sequence[str]) -> DomainSet:
        """List the images; open none of them.

        Args:
            root: The folder that holds the domains.
            wanted: Names of the domains to read; empty for all.

        Raises:
            InvalidInput: If a domain or class is missing, or the domains' classes differ.
        """
        chosen = choose_domains(self.domains, wanted, self.title)
        folders = self._domain_folders(root, chosen)
        listings = {domain: self._listing(domain, folders[domain]) for domain in chosen}
        class_names = agreed_classes(
            [(domain, {image.class_name for image in found.images}) for domain, found in listings.items()]
        )
        if len(class_names) != len(self.class_names):
            raise InvalidInput(
                f"{self.title} has {len(self.class_names)} classes, {root} has {len(class_names)}:"
                f" {self._differences(class_names)}; for a part of it use --dataset folder or a manifest"
            )
        return DomainSet(
            class_names,
            {domain: numbered(found.images, class_names, domain) for domain, found in listings.items()},
            tuple(one for found in listings.values() for one in found.left_out),
        )

    def _domain_folders(self, root: Path, chosen: Sequence[str]) -> dict[str, Path]:
        spelled = {folded(domain): domain for domain in self.domains}
        found: dict[str, Path] = {}
        for folder in list_folders(root):
            domain = spelled.get(folded(folder.name))
            if domain in found:
                raise InvalidInput(
                    f"{found[domain]} and {folder.name} are the same domain of {self.title}: keep one"
                )
            if domain is not None:
                found[domain] = folder
        missing = [domain for domain in chosen if domain not in found]
        if missing:
            raise InvalidInput(
                f"{self.title} in {root} lacks {', '.join(missing)}: expected"
                f" {root.name}/{missing[0]}/CLASS/IMAGE; or name the domains that you want with --domains"
            )
        return found

    def _listing(self, domain: str, folder: Path) -> Listing:
        inner = folder / self.inner_folder if self.inner_folder is not None else folder
        found = list_class_folders(inner if inner.is_dir() else folder, f"{folder.name}/", domain)
        if not found.images:
            raise InvalidInput(f"there is no image in {folder}: expected {folder.name}/CLASS/IMAGE")
        return found

    def _differences(self, found: Sequence[str]) -> str:
        spelled = {folded(name): name for name in self.class_names}
        return class_differences(self.class_names, [spelled.get(folded(name), name) for name in found])
