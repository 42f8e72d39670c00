"""The methods, one file each: what an institution trains, and how the finished model classifies."""
