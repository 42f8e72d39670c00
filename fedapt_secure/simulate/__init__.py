"""A whole federation on one machine: the same server, client and crypto code as a real deployment."""
