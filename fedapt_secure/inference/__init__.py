"""Use of a finished model: prediction, evaluation on one's own images, pictures of the figures.

`predictor.Model` answers images with labels; `decoding` reads images of any origin in bounded memory;
`evaluating` and `labelled` say how well it does on somebody's own folders, `pictures` draws that.

Comes in: a bundle and images; nothing leaves the machine. Knows no session, coordinator or budget.
"""
