"""Aggregation under CKKS homomorphic encryption: the coordinator adds ciphertexts and holds no secret key.

Every institution holds the one secret key, so this tolerates no collusion of the coordinator with any
institution. It is for consortia that trust each other and not the host.
"""
