"""Secure aggregation: schemes behind one interface, both sides as machines without I/O.

`scheme` is the interface: one machine for the institution, one for the coordinator, and the context that
binds both to a round; `institution_machine`, `signed` and `tags` are what machines and messages of schemes
have in common; `cohorts` says who takes part in which round. Schemes: `masking` (the default), `ckks`, and
`plain`, which protects nothing. `group_secret` is what a session's institutions share. `registry` finds a
scheme by its name, `groups` what a session needs for it before its first round, and nothing else here knows
all of them.

A new scheme is a file or a room here, a line in `registry`, and passes
``tests/crypto/secagg/test_schemes.py``.
"""
