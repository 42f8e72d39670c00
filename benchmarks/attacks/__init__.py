"""Attacks on what becomes known, so that nobody takes it for safer than it is."""
