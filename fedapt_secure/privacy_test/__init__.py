"""The empirical privacy test: what an adversary really learns of a record, against the ε that is claimed.

`canaries` are records of which an adversary knows the gradient, one beside the other without touching;
`institution` trains on them with the real code and hands out what leaves it. `game` guesses who was in,
`bounds` turns right guesses into a lower bound on ε. `mechanism_check` is the short version: noise, clipping
and sampling one by one. `reporting` says what was found; ``python -m fedapt_secure.privacy_test``.

Comes in: a budget and numbers, nobody's records. May import `learning`, which it tests, and neither client
nor server. Nothing of an institution imports it.
"""
