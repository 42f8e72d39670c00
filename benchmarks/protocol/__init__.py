"""What measures the protocol: aggregation, bytes, logs, audits, and whole federations under load."""
