"""Images in: from files and folders of any origin to records, splits and frozen features.

Rooms, in the order in which they may import each other: `reading` (which images there are, and their
pixels), `features` (computed once, kept on disk), `layouts` (data sets as they lie on disk), `digits` (the
embedded one). `partition` and `few_shot` divide; `dealing` hands one data set out to the institutions of a
simulated federation.
"""
