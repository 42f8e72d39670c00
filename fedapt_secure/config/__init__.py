"""Settings files and the folder of a party."""
