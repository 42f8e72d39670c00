"""Data sets of several domains as they lie on disk: the published ones, any folder, and a manifest."""
