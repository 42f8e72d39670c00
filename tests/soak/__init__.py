"""A long run of a whole federation under kill -9: see `benchmarks/protocol/soak.py`."""
