"""Whole federations in one process by the real command: real images, noise, TLS, sockets and masks."""
