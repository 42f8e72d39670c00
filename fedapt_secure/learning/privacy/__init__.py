"""Differential privacy of a step: gradients of single records, clipped, summed, and noised on a grid.

`dp` clips where a record's gradient is small, in text-feature space; `record_gradients` and `unit_sums` are
how those gradients are held and added; `mechanism` adds `noise` from a keystream, as an Opacus optimizer;
`accounting` plans the noise that meets a budget and says what steps have cost (Opacus' PRV accountant).

Comes in: sums of losses over `batches`. What leaves is safe to release, and nothing else of this room may
leave an institution. Budgets themselves, without torch, are `fedapt_secure.privacy`.
"""
