"""Secure aggregation: schemes behind one interface, both sides as machines without I/O."""
