"""Pairwise masking with dropout recovery (Bonawitz et al. 2017, with HPKE): only the sum can be read.

`institution` and `coordinator` are the two machines. By phases: `graph` and `neighbourhood` (0, who shares
with whom), `dealing` and `routing` (1, shares and seeds; `records` is their layout), `masked_input` (2),
`unmasking` (4). `messages` is what travels, `parties` how sets of parties are written, `keys` which key
comes from which secret.

Comes in: a vector of integers modulo 2**32 at an institution, and messages whose senders may lie.
``SPEC.md`` says it precisely enough for a second implementation.
"""
