"""The institution: keeps its images, keys and budget, and sends nothing but protected updates."""
