"""Federated adaptive prompt tuning of CLIP (FedAPT, AAAI 2024), private and provable."""

__version__ = "0.1.0"
