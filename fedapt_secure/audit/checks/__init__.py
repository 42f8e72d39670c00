"""Checks: each holds the facts against one thing that must be so, and adds findings where it is not.

`agreement` (the parties' accounts of the same rounds), `witnesses` (logs against the heads that others have
seen), `cohort` (who took part against the session's rule), `sums` (what institutions state of each round's
sum), `models` (each institution's models one after the other), `spend` (plans and steps against budgets),
with `recompute` and `renyi` for the privacy figures: they share no code with the training's accountant.

Comes in: what `evidence` collected. A new check is a file here and a line in `audit.judgement`.
"""
