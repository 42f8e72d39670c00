"""Data sets of several domains as they lie on disk: the published ones, any folder, and a manifest.

`layout` is the interface, `registry` finds a layout by the name that ``--dataset`` takes; the others are
peers, one data set each, and may use what lies beside them (`domain_folders` serves most).

A new layout is a file here and a line in `registry`; what an odd tree means is said by `reading.classes`
and `reading.listing`, in one line each.
"""
