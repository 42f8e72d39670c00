"""PACS (Li et al. 2017, "Deeper, Broader and Artier Domain Generalization"): 4 domains, 7 classes."""

from typing import Final

from fedapt_secure.learning.data.layouts.domain_folders import DomainFolders

PACS: Final = DomainFolders(
    title="PACS",
    domains=("art_painting", "cartoon", "photo", "sketch"),
    class_names=("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"),
)
