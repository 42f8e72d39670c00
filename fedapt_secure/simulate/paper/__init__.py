"""The paper's experiments, a table each: ``fedapt-secure paper TABLE`` runs all of one.

A table is one of `configs/paper`, which says data set and training, and rows, which say what they change.
`published` has the figures to print beside ours. Runs, folder and files are those of `comparison`.
"""
