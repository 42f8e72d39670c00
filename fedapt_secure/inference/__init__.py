"""Use of a finished model: prediction, evaluation on one's own images, pictures of the figures."""
