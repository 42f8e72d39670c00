"""Cryptographic primitives and secure-aggregation schemes; imports nothing else of ours and no torch."""
