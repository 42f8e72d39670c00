"""OfficeHome (Venkateswara et al. 2017): 4 domains, 65 classes; copies spell ``Real World`` in three ways."""

from typing import Final

from fedapt_secure.learning.data.layouts.domain_folders import DomainFolders

OFFICEHOME: Final = DomainFolders(
    title="OfficeHome",
    domains=("Art", "Clipart", "Product", "Real_World"),
    class_names=(
        *("Alarm_Clock", "Backpack", "Batteries", "Bed", "Bike", "Bottle", "Bucket", "Calculator"),
        *("Calendar", "Candles", "Chair", "Clipboards", "Computer", "Couch", "Curtains", "Desk_Lamp"),
        *("Drill", "Eraser", "Exit_Sign", "Fan", "File_Cabinet", "Flipflops", "Flowers", "Folder", "Fork"),
        *("Glasses", "Hammer", "Helmet", "Kettle", "Keyboard", "Knives", "Lamp_Shade", "Laptop", "Marker"),
        *("Monitor", "Mop", "Mouse", "Mug", "Notebook", "Oven", "Pan", "Paper_Clip", "Pen", "Pencil"),
        *("Postit_Notes", "Printer", "Push_Pin", "Radio", "Refrigerator", "Ruler", "Scissors"),
        *("Screwdriver", "Shelf", "Sink", "Sneakers", "Soda", "Speaker", "Spoon", "TV", "Table"),
        *("Telephone", "ToothBrush", "Toys", "Trash_Can", "Webcam"),
    ),
)
