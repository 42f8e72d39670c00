"""Logs that others can check. No torch here: an auditor installs none."""
