"""Aggregation under CKKS homomorphic encryption: the coordinator adds ciphertexts and holds no secret key.

Every institution holds the one secret key, so this tolerates no collusion of the coordinator with any
institution. It is for consortia that trust each other and not the host.

`institution` and `coordinator` are the two machines, `setup` is how the key comes to be, `group` what each
side holds of it, `journal` what it was used for, `catch_up` opens a sum that was missed. TenSEAL runs in a
`worker` of its own, behind `process` and `frames`, and `structure` lets no other bytes than ciphertexts
reach it; `packing` puts values and check values into slots, `flooding` adds the noise that hides what a
decryption gives away, `parameters` is the one parameter set, `messages` is what travels.
"""
