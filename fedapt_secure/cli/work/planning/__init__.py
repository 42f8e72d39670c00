"""The work of ``fedapt-secure plan``: what a budget buys, before anything is spent.

`plan` prints noise, steps and ε, `outlook` the prior weight and what was measured at such noise.

Comes in: a budget, counts and sizes. Goes out: text or JSON; nothing is written or spent.
"""
