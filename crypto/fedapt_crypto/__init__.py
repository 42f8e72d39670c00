"""Cryptographic primitives and secure-aggregation schemes; imports nothing else of ours and no torch.

Primitives are modules of their own, one idea each: `identity` (Ed25519), `seal` (HPKE), `kdf`, `keystream`,
`shamir`, `merkle`, `masks`, `fixed_point`; `encoding` is the one byte form of messages, decoded strictly,
`decoding_cost` how much memory foreign bytes may take;
`roster` says who takes part; `pki`, `certificates`, `protected_keys` and `private_files` are keys and
files; `errors` is the one error tree. `secagg` is the room of the aggregation schemes, above all of them.
"""
