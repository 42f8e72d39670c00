"""Office-31 (Saenko et al. 2010): 3 domains, 31 classes; the original has ``domain/images/class``."""

from typing import Final

from fedapt_secure.learning.data.layouts.domain_folders import DomainFolders

OFFICE31: Final = DomainFolders(
    title="Office-31",
    domains=("amazon", "dslr", "webcam"),
    class_names=(
        *("back_pack", "bike", "bike_helmet", "bookcase", "bottle", "calculator", "desk_chair", "desk_lamp"),
        *("desktop_computer", "file_cabinet", "headphones", "keyboard", "laptop_computer", "letter_tray"),
        *(
            "mobile_phone",
            "monitor",
            "mouse",
            "mug",
            "paper_notebook",
            "pen",
            "phone",
            "printer",
            "projector",
        ),
        *(
            "punchers",
            "ring_binder",
            "ruler",
            "scissors",
            "speaker",
            "stapler",
            "tape_dispenser",
            "trash_can",
        ),
    ),
    inner_folder="images",
)
