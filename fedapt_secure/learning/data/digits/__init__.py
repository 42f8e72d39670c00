"""The embedded data set: real handwritten digits (`scans`), drawn in the `styles` of domains, or made anew.

`synthetic` draws digits for more institutions than there are scans for, and a run on them says so.
"""
