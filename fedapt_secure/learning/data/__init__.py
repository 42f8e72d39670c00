"""Images in: data sets, styles, split by image hash, frozen features."""
