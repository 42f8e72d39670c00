"""Measurements, ours against the alternatives in the same run; their figures are in ``docs/``.

Rooms: `learning` (steps, inference, utility, tuning), `protocol` (aggregation, wire, logs, whole
federations), `device` (a GPU), `attacks` (what sums give away), `pages` (what writes figures into documents).
`harness` is what they share; `suite` runs those of `make bench`. Each is a command, run from the repository:
``python -m benchmarks.learning.dp_step --help``.
"""
