"""Office-Caltech10 (Gong et al. 2012, "Geodesic Flow Kernel"): 4 domains, 10 classes."""

from typing import Final

from fedapt_secure.learning.data.layouts.domain_folders import DomainFolders

OFFICE_CALTECH10: Final = DomainFolders(
    title="Office-Caltech10",
    domains=("amazon", "caltech", "dslr", "webcam"),
    class_names=(
        *("back_pack", "bike", "calculator", "headphones", "keyboard"),
        *("laptop_computer", "monitor", "mouse", "mug", "projector"),
    ),
    inner_folder="images",
)
